"""Other tools' formats: files as those tools write them, published or real."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from calibration import CalibrationError
from calibration.formats import ReadOptions, format_of, read_any
from calibration.rotations import matrix_from_quaternion, matrix_from_vector

METRES = ReadOptions(metres=1.0, size=(1280, 720), names=("left", "right"))

CALISCOPE = """
[cameras.0]
cam_id = 0
ignore = false
error = 0.5
size = [1280, 720]
matrix = [[903.5, 0.0, 618.3], [0.0, 907.8, 394.2], [0.0, 0.0, 1.0]]
distortions = [-0.33, 0.046, -0.004, 0.004, 0.066]
translation = [0.1, -0.2, 0.6]
rotation = [[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]]

[cameras.7]
cam_id = 7
ignore = true
size = [1280, 720]
matrix = [[903.5, 0.0, 618.3], [0.0, 907.8, 394.2], [0.0, 0.0, 1.0]]
distortions = [0.0, 0.0, 0.0, 0.0, 0.0]

[cameras.2]
cam_id = 2
size = [1280, 720]
matrix = [[903.5, 0.0, 618.3], [0.0, 907.8, 394.2], [0.0, 0.0, 1.0]]
distortions = [0.0, 0.0, 0.0, 0.0, 0.0]
"""

ANIPOSELIB = """
[cam_0]
name = "A"
size = [1280, 720]
matrix = [[822.4, 0.0, 639.5], [0.0, 822.4, 359.5], [0.0, 0.0, 1.0]]
distortions = [-0.06, 0.0, 0.0, 0.0]
rotation = [0.0145, 0.1363, 0.009]
translation = [-94.2, 8.77, -97.2]
fisheye = true

[cam_1]
name = "B"
size = [1280, 720]
matrix = [[851.9, 0.0, 639.5], [0.0, 851.9, 359.5], [0.0, 0.0, 1.0]]
distortions = [-0.1, 0.0, 0.0, 0.0, 0.0]
rotation = [0.0, 0.0, 0.0]
translation = [0.0, 0.0, 0.0]

[metadata]
adjusted = false
error = 0.26
"""


def put(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_caliscope(tmp_path: Path) -> None:
    rig = read_any(put(tmp_path / "camera_array.toml", CALISCOPE))
    assert list(rig.cameras) == ["cam_0", "cam_2"]
    camera = rig.cameras["cam_0"]
    assert (camera.width, camera.height, camera.model) == (1280, 720, "opencv")
    np.testing.assert_array_equal(camera.T_camera_world[:3, 3], [0.1, -0.2, 0.6])
    np.testing.assert_array_equal(camera.T_camera_world[1, :3], [0, 0, -1])
    np.testing.assert_array_equal(camera.dist, [-0.33, 0.046, -0.004, 0.004, 0.066])
    assert rig.cameras["cam_2"].T_camera_world is None


def test_aniposelib_vectors_units_and_names(tmp_path: Path) -> None:
    rig = read_any(put(tmp_path / "calibration.toml", ANIPOSELIB), ReadOptions(metres=0.001))
    assert list(rig.cameras) == ["A", "B"]
    T = rig.cameras["A"].T_camera_world
    np.testing.assert_allclose(T[:3, 3], [-0.0942, 0.00877, -0.0972])
    expected = matrix_from_vector(np.array([0.0145, 0.1363, 0.009]))
    np.testing.assert_allclose(T[:3, :3], expected, atol=1e-12)
    assert rig.cameras["A"].model == "opencv_fisheye"
    np.testing.assert_array_equal(rig.cameras["B"].T_camera_world, np.eye(4))


def test_the_toml_dialects_differ_in_their_unit(tmp_path: Path) -> None:
    """FreeMoCap's file is aniposelib's in millimetres with notes, Pose2Sim's is in metres."""
    plain = ANIPOSELIB.replace("fisheye = true\n", "").replace(
        "-0.06, 0.0, 0.0, 0.0", "-0.06, 0, 0, 0, 0"
    )
    freemocap = plain + 'path_to_recorded_videos = "x"\ncharuco_square_size = 39.0\n'
    rig = read_any(put(tmp_path / "f.toml", freemocap))
    np.testing.assert_allclose(rig.cameras["A"].T_camera_world[:3, 3], [-0.0942, 0.00877, -0.0972])
    pose2sim = plain.replace("translation", "fisheye = false\ntranslation")
    rig = read_any(put(tmp_path / "p.toml", pose2sim))
    np.testing.assert_allclose(rig.cameras["A"].T_camera_world[:3, 3], [-94.2, 8.77, -97.2])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = [", "not valid TOML"),
        ("x = 1", "holds no calibrated camera"),
        (ANIPOSELIB.replace('"B"', '"A"'), "'A' appears twice"),
        (ANIPOSELIB.replace("size = [1280, 720]", "size = 3"), "camera 'A': size"),
        (CALISCOPE.replace("[903.5, 0.0, 618.3]", "[nan, 0.0, 618.3]"), "'cam_0': matrix"),
        (CALISCOPE.replace("translation = [0.1, -0.2, 0.6]", "translation = [0.1]"), "translation"),
        (CALISCOPE.replace("0.0, -1.0]", "0.0, 1.0]"), "left-handed"),
        (
            ANIPOSELIB.replace("0.0, 0.0, 0.0, 0.0]", "0, 0, 0, 0, 0, 0, 0, 0, 0.1, 0, 0]"),
            "thin prism",
        ),
    ],
)
def test_wrong_toml_is_refused_in_one_line(text: str, message: str, tmp_path: Path) -> None:
    path = put(tmp_path / "rig.toml", text)
    with pytest.raises(CalibrationError, match=message) as caught:
        read_any(path, METRES)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


INTRINSICS = """{header}
---
M1: !!opencv-matrix
   rows: 3
   cols: 3
   dt: d
   data: [ 533.98, 0., 328.38, 0., 528.71, 236.84, 0., 0., 1. ]
D1: !!opencv-matrix
   rows: 1
   cols: 14
   dt: d
   data: [ -0.25, -0.12, 0., 0., 0., 0., 0., -0.39, 0., 0., 0., 0., 0., 0. ]
M2: !!opencv-matrix
   rows: 3
   cols: 3
   dt: d
   data: [ 533.98, 0., 313.77, 0., 528.71, 241.87, 0., 0., 1. ]
D2: !!opencv-matrix
   rows: 1
   cols: 14
   dt: d
   data: [ -0.26, -0.01, 0., 0., 0., 0., 0., 0., 0., 0., 0., 0., 0., 0. ]
"""
EXTRINSICS = """{header}
---
R: !!opencv-matrix
   rows: 3
   cols: 3
   dt: d
   data: [ 1., 0., 0., 0., 1., 0., 0., 0., 1. ]
T: !!opencv-matrix
   rows: 3
   cols: 1
   dt: d
   data: [ -3.34, 0.04, 0.003 ]
"""


@pytest.mark.parametrize("header", ["%YAML:1.0", "%YAML 1.2"])
def test_opencv_stereo_of_both_versions(header: str, tmp_path: Path) -> None:
    path = put(tmp_path / "intrinsics.yml", INTRINSICS.format(header=header))
    put(tmp_path / "extrinsics.yml", EXTRINSICS.format(header=header))
    with pytest.raises(CalibrationError, match="--size"):
        read_any(path, ReadOptions(metres=0.025))
    rig = read_any(path, ReadOptions(metres=0.025, size=(640, 480)))
    assert list(rig.cameras) == ["left", "right"]
    np.testing.assert_allclose(
        rig.cameras["right"].position, np.array([3.34, -0.04, -0.003]) * 0.025
    )
    assert len(rig.cameras["left"].dist) == 8 and rig.cameras["left"].dist[7] == -0.39


def test_opencv_single_camera_and_tilt(tmp_path: Path) -> None:
    text = INTRINSICS.format(header="%YAML:1.0").replace("M1:", "camera_matrix:")
    text = "image_width: 640\nimage_height: 480\n".join(text.split("---\n"))
    single = text.split("M2:")[0].replace("D1:", "distortion_coefficients:")
    single = single.replace("%YAML:1.0\n", "%YAML:1.0\n---\n")
    rig = read_any(put(tmp_path / "phone.yml", single))
    assert list(rig.cameras) == ["phone"] and rig.cameras["phone"].T_camera_world is None
    tilted = single.replace("0., 0. ]", "0.1, 0. ]")
    with pytest.raises(CalibrationError, match="thin prism or tilt"):
        read_any(put(tmp_path / "tilted.yml", tilted))


def test_easymocap_R_is_a_rotation_vector(tmp_path: Path) -> None:
    intri = (
        '%YAML:1.0\n---\nnames:\n   - "01"\n'
        "K_01: !!opencv-matrix\n   rows: 3\n   cols: 3\n   dt: d\n"
        "   data: [ 1000., 0., 960., 0., 1001., 540., 0., 0., 1. ]\n"
        "dist_01: !!opencv-matrix\n   rows: 1\n   cols: 5\n   dt: d\n"
        "   data: [ -0.1, 0.02, 0., 0., 0. ]\n"
    )
    extri = (
        '%YAML:1.0\n---\nnames:\n   - "01"\n'
        "R_01: !!opencv-matrix\n   rows: 3\n   cols: 1\n   dt: d\n"
        "   data: [ 0., 1.5707963267948966, 0. ]\n"
        "T_01: !!opencv-matrix\n   rows: 3\n   cols: 1\n   dt: d\n   data: [ 0.5, 0., 3. ]\n"
    )
    put(tmp_path / "intri.yml", intri)
    put(tmp_path / "extri.yml", extri)
    rig = read_any(tmp_path, ReadOptions(size=(1920, 1080)))
    T = rig.cameras["01"].T_camera_world
    np.testing.assert_allclose(T[:3, :3], [[0, 0, 1], [0, 1, 0], [-1, 0, 0]], atol=1e-12)
    np.testing.assert_allclose(T[:3, 3], [0.5, 0, 3])


def test_colmap_half_pixel_and_direction(tmp_path: Path) -> None:
    """The example of COLMAP's documentation, its camera 1 and image 1."""
    put(tmp_path / "cameras.txt", "# list\n1 SIMPLE_PINHOLE 3072 2304 2559.81 1536 1152\n")
    put(
        tmp_path / "images.txt",
        "# list\n1 0.851773 0.0165051 0.503764 -0.142941 -0.737434 1.02973 3.74354 1 P1180141.JPG\n"
        "2362.39 248.498 58396 1784.7 268.254 59027\n",
    )
    put(tmp_path / "points3D.txt", "")
    camera = read_any(tmp_path, ReadOptions(metres=1.0)).cameras["P1180141"]
    np.testing.assert_allclose(camera.K[:2, 2], [1535.5, 1151.5])
    R = matrix_from_quaternion(np.array([0.851773, 0.0165051, 0.503764, -0.142941]))
    np.testing.assert_allclose(camera.position, -R.T @ [-0.737434, 1.02973, 3.74354], atol=1e-9)
    put(tmp_path / "cameras.txt", "1 FOV 3072 2304 2559.81 2559.81 1536 1152 0.1\n")
    with pytest.raises(CalibrationError, match="model FOV is not supported"):
        read_any(tmp_path, METRES)


def test_nerfstudio_is_opengl_camera_to_world(tmp_path: Path) -> None:
    """A camera 2 above the origin that looks down (-z in OpenGL is its view)."""
    frame = {
        "file_path": "images/top.png",
        "transform_matrix": [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 2], [0, 0, 0, 1]],
    }
    data = {"w": 100, "h": 80, "fl_x": 90, "cx": 50, "cy": 40, "frames": [frame]}
    path = put(tmp_path / "transforms.json", json.dumps(data))
    camera = read_any(path, ReadOptions(metres=1.0)).cameras["top"]
    np.testing.assert_allclose(camera.position, [0, 0, 2])
    # The world's origin is in the middle of the picture, whose centre is 49.5 in our pixels.
    np.testing.assert_allclose(camera.project(np.zeros((1, 3))), [[49.5, 39.5]])
    # What is further along the world's +y is higher up in the picture.
    assert camera.project(np.array([[0, 0.5, 0.0]]))[0, 1] < 39.5


def test_nersemble_dialects(tmp_path: Path) -> None:
    K, T = [[8000.0, 0, 1100], [0, 8000, 1600], [0, 0, 1]], np.eye(4).tolist()
    poses = {"222200037": T, "220700191": T}
    options = ReadOptions(size=(2200, 3208))
    shared = put(tmp_path / "a.json", json.dumps({"world_2_cam": poses, "intrinsics": K}))
    assert format_of(shared).name == "nersemble-shared"
    one = read_any(shared, options)
    apiece = {"world_2_cam": poses, "intrinsics": dict.fromkeys(poses, K)}
    two = read_any(put(tmp_path / "b.json", json.dumps(apiece)), options)
    for rig in (one, two):
        assert list(rig.cameras) == list(poses)
        np.testing.assert_array_equal(rig.cameras["222200037"].K, K)
    del apiece["intrinsics"]["220700191"]
    with pytest.raises(CalibrationError, match="'220700191': intrinsics has no entry"):
        read_any(put(tmp_path / "c.json", json.dumps(apiece)), options)


def test_multiface_krt_is_in_millimetres(tmp_path: Path) -> None:
    text = (
        "400002\n7500.1 0 680.2\n0 7501.3 1011.9\n0 0 1\n0.1 -0.2 0 0 0\n"
        "1 0 0 -100\n0 1 0 20\n0 0 1 1050\n\n"
    )
    path = put(tmp_path / "KRT", text)
    camera = read_any(path, ReadOptions(size=(1334, 2048))).cameras["400002"]
    np.testing.assert_allclose(camera.T_camera_world[:3, 3], [-0.1, 0.02, 1.05])
    with pytest.raises(CalibrationError, match="breaks off"):
        read_any(put(path, text.replace("0 0 1 1050\n", "")))


def test_facescape_leaves_invalid_cameras_out(tmp_path: Path) -> None:
    data: dict = {}
    for i in range(2):
        data |= {
            f"{i}_K": [[2000.0, 0, 800], [0, 2000, 1200], [0, 0, 1]],
            f"{i}_Rt": np.eye(4)[:3].tolist(),
            f"{i}_distortion": [0.1, 0, 0, 0, 0],
            f"{i}_width": 1600,
            f"{i}_height": 2400,
            f"{i}_valid": i == 1,
        }
    rig = read_any(put(tmp_path / "params.json", json.dumps(data)), ReadOptions(metres=1.0))
    assert list(rig.cameras) == ["1"] and rig.cameras["1"].height == 2400


KALIBR = """
cam0:
  cam_overlaps: [1]
  camera_model: pinhole
  distortion_coeffs: [-0.28, 0.07, 0.0002, 0.00002]
  distortion_model: radtan
  intrinsics: [458.654, 457.296, 367.215, 248.375]
  resolution: [752, 480]
  rostopic: /cam0/image_raw
cam1:
  T_cn_cnm1:
  - [1.0, 0.0, 0.0, -0.11]
  - [0.0, 1.0, 0.0, 0.0]
  - [0.0, 0.0, 1.0, 0.0]
  - [0.0, 0.0, 0.0, 1.0]
  cam_overlaps: [0]
  camera_model: pinhole
  distortion_coeffs: [-0.28, 0.07, 0.0002, 0.00002]
  distortion_model: equidistant
  intrinsics: [457.587, 456.134, 379.999, 255.238]
  resolution: [752, 480]
  rostopic: /cam1/image_raw
"""


def test_kalibr_chain(tmp_path: Path) -> None:
    third = KALIBR.split("cam1:")[1]
    text = KALIBR + "cam2:" + third.replace("/cam1/", "/cam2/")
    rig = read_any(put(tmp_path / "camchain.yaml", text))
    np.testing.assert_allclose(rig.cameras["cam2"].position, [0.22, 0, 0])
    assert rig.cameras["cam1"].model == "opencv_fisheye"
    omni = KALIBR.replace("camera_model: pinhole", "camera_model: omni", 1)
    with pytest.raises(CalibrationError, match="'omni' is not supported"):
        read_any(put(tmp_path / "omni.yaml", omni))
    with pytest.raises(CalibrationError, match="without a gap"):
        read_any(put(tmp_path / "gap.yaml", text.replace("cam1:\n", "cam7:\n")))


METASHAPE = """<?xml version="1.0" encoding="UTF-8"?>
<document version="1.5.0"><chunk label="Chunk 1" enabled="true">
<sensors next_id="1"><sensor id="0" label="FC220, 4.7 mm" type="frame">
<resolution width="4000" height="3000"/>
<calibration type="frame" class="adjusted"><resolution width="4000" height="3000"/>
<f>3000.5</f><cx>12.5</cx><cy>-8.25</cy><k1>0.05</k1><k2>-0.1</k2><k3>0.07</k3>
<p1>0.001</p1><p2>-0.002</p2></calibration></sensor></sensors>
<cameras next_id="2"><group id="0" label="g">
<camera id="0" sensor_id="0" label="left.JPG"><transform>1 0 0 2 0 1 0 0 0 0 1 0 0 0 0 1</transform>
</camera></group><camera id="1" sensor_id="0" label="not_aligned"/></cameras>
<transform><scale>0.5</scale></transform></chunk></document>
"""


def test_metashape(tmp_path: Path) -> None:
    rig = read_any(put(tmp_path / "cameras.xml", METASHAPE))
    camera = rig.cameras["left"]
    assert len(rig.cameras) == 1
    np.testing.assert_allclose(camera.K[:2, 2], [2012.0, 1491.25])
    np.testing.assert_allclose(camera.dist, [0.05, -0.1, -0.002, 0.001, 0.07])
    np.testing.assert_allclose(camera.position, [1.0, 0, 0])
    for spoil, message in (
        ("<k1>", "<k4>0.1</k4><k1>"),
        ("<k1>", "<b2>3</b2><k1>"),
        ("<document", "<!DOCTYPE x><document"),
        ("</document>", ""),
    ):
        broken = METASHAPE.replace(spoil, message, 1)
        with pytest.raises(CalibrationError, match="k4|b2|DOCTYPE|not valid XML"):
            read_any(put(tmp_path / "broken.xml", broken))
    with pytest.raises(CalibrationError, match="give --units"):
        read_any(put(tmp_path / "x.xml", METASHAPE.replace("<scale>0.5</scale>", "")))
    # The scale once gave way to the unit of the scaled world.
    rig = read_any(put(tmp_path / "cm.xml", METASHAPE), ReadOptions(metres=0.01))
    np.testing.assert_allclose(rig.cameras["left"].position, [0.01, 0, 0])


def test_metashape_components(tmp_path: Path) -> None:
    """Newer versions keep the scale in the component that a camera belongs to."""
    text = METASHAPE.replace("<transform><scale>0.5</scale></transform>", "")
    text = text.replace(
        "<cameras",
        "<components>"
        '<component id="0"><transform><scale>3</scale></transform></component>'
        '<component id="1"><transform><scale>0.25</scale></transform></component>'
        "</components><cameras",
    )
    text = text.replace(
        'sensor_id="0" label="left.JPG"', 'sensor_id="0" component_id="1" label="l"'
    )
    camera = read_any(put(tmp_path / "cameras.xml", text)).cameras["l"]
    np.testing.assert_allclose(camera.position, [0.5, 0, 0])
    other = (
        '<camera id="2" sensor_id="0" component_id="0" label="r"><transform>1 0 0 2 0 1 0 0 0 0 1 '
        "0 0 0 0 1</transform></camera></cameras>"
    )
    with pytest.raises(CalibrationError, match="2 components, which are not aligned"):
        read_any(put(tmp_path / "two.xml", text.replace("</cameras>", other)))


def test_metashape_labels_keep_their_dots(tmp_path: Path) -> None:
    """rig.left and rig.mid were both called rig."""
    text = METASHAPE.replace('label="left.JPG"', 'label="rig.left"')
    text = text.replace(
        "</group>",
        '<camera id="2" sensor_id="0" label="rig.mid.tif"><transform>1 0 0 2 0 1 0 0 0 0 1 0 0 0 0 '
        "1</transform></camera></group>",
    )
    assert list(read_any(put(tmp_path / "c.xml", text)).cameras) == ["rig_left", "rig_mid"]


DATA = Path(os.environ.get("DENSEFIT_DATA", "")) if os.environ.get("DENSEFIT_DATA") else None


@pytest.mark.skipif(
    DATA is None, reason="DENSEFIT_DATA does not name the folder of real recordings"
)
def test_real_files() -> None:
    assert DATA is not None
    array = read_any(DATA / "rigs" / "caliscope4" / "camera_array.toml")
    config = read_any(DATA / "rigs" / "caliscope4" / "config.toml")
    for name, camera in array.cameras.items():
        np.testing.assert_array_equal(camera.T_camera_world, config.cameras[name].T_camera_world)
    stereo = read_any(
        DATA / "calibration" / "opencv_stereo" / "intrinsics.yml",
        ReadOptions(metres=1.0, size=(640, 480)),
    )
    assert np.linalg.norm(stereo.cameras["right"].position) == pytest.approx(3.3430, abs=1e-3)
