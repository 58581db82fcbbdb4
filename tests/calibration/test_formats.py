"""Other tools' formats: round trips of every one, and what is asked for or refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from calibration import CalibrationError, Camera, Rig
from calibration.formats import (
    FORMATS,
    ReadOptions,
    format_of,
    parse_names,
    parse_size,
    parse_units,
    read_any,
    write_any,
)
from calibration.formats.opencv_text import read_storage
from calibration.rotations import (
    matrix_from_quaternion,
    matrix_from_vector,
    quaternion_from_matrix,
    transform,
    vector_from_matrix,
)

METRES = ReadOptions(metres=1.0, size=(1280, 720), names=("left", "right"))
# What a format cannot hold.
PAIRS = {"opencv"}
NO_FISHEYE = {
    "easymocap", "nersemble", "nersemble-shared", "multiface", "facescape",
}  # fmt: skip
# The TOML tables and OpenCV's files are read by OpenCV, which takes four, five and eight.
EIGHT_TERMS = {
    "densefit", "caliscope", "freemocap", "pose2sim", "aniposelib", "opencv",
    "colmap", "colmap-bin",
}  # fmt: skip
# Their unit and picture size, so nothing may be asked.
STATES_UNIT = {
    "densefit", "caliscope", "freemocap", "pose2sim", "easymocap", "kalibr", "metashape",
}  # fmt: skip
NO_LENS = {"nersemble", "nersemble-shared"}
FOUR_TERMS = {"kalibr"}
# Formats whose first camera is the world.
RELATIVE = {"opencv", "kalibr"}


def make(name: str, seed: int, dist: tuple[float, ...], model: str = "opencv") -> Camera:
    rng = np.random.default_rng(seed)
    T = transform(matrix_from_vector(rng.normal(0, 0.8, 3)), rng.normal(0, 1, 3))
    K = np.array([[903.25, 0, 640.75], [0, 905.5, 349.125], [0, 0, 1]])
    return Camera(name, 1280, 720, model, K, np.array(dist), T)


def rig_for(name: str, fisheye: bool = False) -> Rig:
    if fisheye:
        lens: tuple[float, ...] = (0.02, -0.01, 0.003, -0.001)
    elif name in NO_LENS:
        lens = ()
    else:
        lens = (-0.2, 0.05, 0.001, -0.002) + (() if name in FOUR_TERMS else (0.01,))
    model = "opencv_fisheye" if fisheye else "opencv"
    names = ("left", "right") if name in PAIRS else ("left", "right", "far-up")
    cameras = [make(n, i, lens, model) for i, n in enumerate(names)]
    if name in RELATIVE:
        cameras[0] = replace(cameras[0], T_camera_world=np.eye(4))
    return Rig({c.name: c for c in cameras})


def path_for(name: str, folder: Path) -> Path:
    target = FORMATS[name].target
    return folder / target.rstrip("/") if target else folder / "file"


@pytest.mark.parametrize(
    ("name", "fisheye"),
    [(name, False) for name in FORMATS] + [(n, True) for n in FORMATS if n not in NO_FISHEYE],
)
def test_round_trip(name: str, fisheye: bool, tmp_path: Path) -> None:
    rig, path = rig_for(name, fisheye), path_for(name, tmp_path)
    write_any(path, rig, name)
    assert format_of(path).name == name
    options = ReadOptions() if name in STATES_UNIT else METRES
    if name.startswith("nersemble") or name == "multiface":
        options = ReadOptions(size=(1280, 720))
    back = read_any(path, options)
    assert list(back.cameras) == list(rig.cameras)
    points = np.random.default_rng(0).uniform(-1, 1, (50, 3))
    for camera, again in zip(rig.cameras.values(), back.cameras.values(), strict=True):
        assert (again.width, again.height, again.model) == (1280, 720, camera.model)
        np.testing.assert_allclose(again.T_camera_world, camera.T_camera_world, atol=1e-9)
        np.testing.assert_allclose(again.project(points), camera.project(points), atol=1e-6)


def with_terms(count: int, name: str = "densefit") -> Rig:
    cameras = rig_for(name).cameras
    return Rig({n: replace(c, dist=np.full(count, 0.01)) for n, c in cameras.items()})


@pytest.mark.parametrize("name", sorted(EIGHT_TERMS))
def test_eight_coefficients_survive(name: str, tmp_path: Path) -> None:
    rig, path = with_terms(8, name), path_for(name, tmp_path)
    write_any(path, rig, name)
    back = read_any(path, ReadOptions() if name in STATES_UNIT else METRES)
    for camera in back.cameras.values():
        np.testing.assert_array_equal(camera.dist, rig.cameras[camera.name].dist)


def test_what_a_format_cannot_hold_is_refused(tmp_path: Path) -> None:
    eight = with_terms(8)
    for name in sorted(set(FORMATS) - EIGHT_TERMS):
        with pytest.raises(CalibrationError, match="distortion coefficients"):
            write_any(path_for(name, tmp_path), eight, name)
    for name, lens in (("kalibr", "opencv4"), ("nersemble", "opencv0"), ("easymocap", "opencv5")):
        five = with_terms(8 if name == "easymocap" else 5)
        with pytest.raises(CalibrationError, match=f"--lens {lens}"):
            write_any(path_for(name, tmp_path), five, name)
    fisheye = rig_for("densefit", True)
    for name in sorted(NO_FISHEYE):
        with pytest.raises(CalibrationError, match="fisheye"):
            write_any(path_for(name, tmp_path), fisheye, name)
    with pytest.raises(CalibrationError, match="one camera or a pair"):
        write_any(tmp_path / "x.yml", eight, "opencv")
    bare = Rig({"left": Camera("left", 10, 10)})
    for name in FORMATS:
        if name != "densefit":
            with pytest.raises(CalibrationError, match="K is unknown"):
                write_any(path_for(name, tmp_path), bare, name)
    with pytest.raises(CalibrationError, match="did you mean 'colmap'"):
        write_any(tmp_path / "x", bare, "colmpa")
    assert not list(tmp_path.rglob("*.json"))


@pytest.mark.parametrize("name", ["aniposelib", "opencv", "colmap", "nerfstudio", "facescape"])
def test_an_unknown_unit_is_asked_for(name: str, tmp_path: Path) -> None:
    path = path_for(name, tmp_path)
    write_any(path, rig_for(name), name)
    with pytest.raises(CalibrationError, match="does not say its unit of length; give --units"):
        read_any(path, ReadOptions(size=(1280, 720)))
    centimetres = read_any(path, ReadOptions(metres=0.01, size=(1280, 720)))
    metres = read_any(path, METRES)
    np.testing.assert_allclose(
        centimetres.cameras["right"].position, metres.cameras["right"].position / 100, atol=1e-12
    )


@pytest.mark.parametrize(
    ("name", "unit"),
    [("caliscope", "m"), ("freemocap", "mm"), ("pose2sim", "m"), ("easymocap", "m")]
    + [("nersemble", "m"), ("multiface", "mm"), ("kalibr", "m"), ("densefit", "m")],
)
def test_a_stated_unit_is_not_overruled(name: str, unit: str, tmp_path: Path) -> None:
    """KRT with --units m once came out 1000 times too large."""
    path = path_for(name, tmp_path)
    write_any(path, rig_for(name), name)
    size = (1280, 720)
    with pytest.raises(CalibrationError, match=f"translations in {unit}, --units says cm"):
        read_any(path, ReadOptions(metres=0.01, size=size))
    same = read_any(path, ReadOptions(metres=parse_units(unit), size=size))
    lenses = read_any(path, ReadOptions(size=size, lenses_only=True))
    for rig in (same, lenses):
        np.testing.assert_allclose(
            rig.cameras["right"].T_camera_world, rig_for(name).cameras["right"].T_camera_world
        )


def test_a_stated_size_is_not_overruled(tmp_path: Path) -> None:
    path = path_for("kalibr", tmp_path)
    write_any(path, rig_for("kalibr"), "kalibr")
    with pytest.raises(CalibrationError, match="pictures are 1280x720, --size 640x480"):
        read_any(path, ReadOptions(size=(640, 480)))
    assert read_any(path, ReadOptions(size=(1280, 720))).cameras


def test_caliscope_numbers_are_whole_and_free(tmp_path: Path) -> None:
    """Once `cam_id = 01`, which is no TOML, and [cameras.0] twice."""
    names = ["cam_01", "left", "cam_0", "right", "cam_2", "2"]
    rig = Rig({n: make(n, i, (0.1, 0.0, 0.0, 0.0, 0.0)) for i, n in enumerate(names)})
    path = tmp_path / "camera_array.toml"
    write_any(path, rig, "caliscope")
    back = read_any(path)
    assert set(back.cameras) == set(names)
    for name, camera in back.cameras.items():
        np.testing.assert_allclose(camera.position, rig.cameras[name].position, atol=1e-12)
    assert "[cameras.0]\ncam_id = 0\n" in path.read_text()


def test_a_format_that_is_named_is_taken(tmp_path: Path) -> None:
    """Fisheye cameras called cam_0, ... could be aniposelib's, whose unit is asked for."""
    fisheye = rig_for("pose2sim", True).cameras.values()
    cameras = [replace(camera, name=f"cam_{i}") for i, camera in enumerate(fisheye)]
    path = tmp_path / "Calib.toml"
    write_any(path, Rig({c.name: c for c in cameras}), "pose2sim")
    with pytest.raises(CalibrationError, match="give --units"):
        read_any(path)
    assert list(read_any(path, None, "pose2sim").cameras) == ["cam_0", "cam_1", "cam_2"]


@pytest.mark.parametrize("name", ["nersemble", "multiface"])
def test_an_unknown_size_is_asked_for(name: str, tmp_path: Path) -> None:
    path = path_for(name, tmp_path)
    write_any(path, rig_for(name), name)
    with pytest.raises(CalibrationError, match="does not say the picture's size; give --size"):
        read_any(path)


def test_units_and_sizes_as_typed() -> None:
    assert [parse_units(t) for t in ("m", "cm", "mm", "0.025", None)] == [
        1,
        0.01,
        0.001,
        0.025,
        None,
    ]
    assert parse_size("1920x1080") == (1920, 1080) and parse_size(None) is None
    assert parse_names("left, right") == ("left", "right") and parse_names(None) == ()
    for bad in ("a,a", "a,", "a b", ""):
        with pytest.raises(CalibrationError, match="names"):
            parse_names(bad)
    for bad in ("0x0", "640x0"):
        with pytest.raises(CalibrationError, match="1920x1080"):
            parse_size(bad)
    for bad in ("inch", "-1", "nan"):
        with pytest.raises(CalibrationError, match="units"):
            parse_units(bad)
    with pytest.raises(CalibrationError, match="1920x1080"):
        parse_size("1920,1080")


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match="no such file"):
        read_any(tmp_path / "none.toml")


# As OpenCV's own stereo sample writes them: two files, 14 coefficients, no picture size.


def test_colmap_binary_that_is_cut_off(tmp_path: Path) -> None:
    write_any(tmp_path, rig_for("colmap-bin"), "colmap-bin")
    data = (tmp_path / "images.bin").read_bytes()
    for end in (4, 30, len(data) - 3):
        (tmp_path / "images.bin").write_bytes(data[:end])
        with pytest.raises(CalibrationError, match="damaged"):
            read_any(tmp_path, METRES)


@pytest.mark.parametrize("suffix", ["yml", "json", "xml"])
def test_what_opencv_writes_is_read_without_it(suffix: str, tmp_path: Path) -> None:
    """Its own parsers end the process on damaged files."""
    import cv2

    values = {
        "image_width": 640, "error": 0.25, "name": "pin hole: 3", "digits": "01",
        "K": np.array([[1.5e-7, 0, 3], [0, -1e22, np.nan], [np.inf, -np.inf, 1]]),
        "row": np.float32([[1, 2]]), "channels": np.arange(6.0).reshape(1, 3, 2),
    }  # fmt: skip
    path = tmp_path / f"camera.{suffix}"
    storage = cv2.FileStorage(str(path), cv2.FILE_STORAGE_WRITE)
    for key, value in values.items():
        storage.write(key, value)
    for key, items in (("names", ["left", "1"]), ("image_size", [640, 480])):
        storage.startWriteStruct(key, cv2.FileNode_SEQ)
        for item in items:
            storage.write("", item)
        storage.endWriteStruct()
    storage.release()
    read = read_storage(path)
    assert set(read) == {*values, "names", "image_size"}
    for key, value in values.items():
        np.testing.assert_array_equal(read[key], value)
    assert read["names"] == ["left", "1"] and read["image_size"] == [640, 480]


@pytest.mark.parametrize(
    "text",
    [
        "%YAML:1.0\n---\na: " + "[" * 50_000,
        "%YAML:1.0\n---\na: " + "- " * 50_000,
        '{"a": ' * 50_000,
        "<opencv_storage>" + "<a>" * 50_000,
        "%YAML:1.0\n---\nK: !!opencv-matrix\n   rows: -3\n   cols: 3\n   data: [1]\n",
        "%YAML:1.0\n---\nK: !!opencv-matrix\n   rows: 3\n   cols: 3\n   data: [1, 2]\n",
        "%YAML:1.0\n---\nK: !!opencv-matrix 3\n",
        "<?xml version='1.0' encoding='QTF-8'?><opencv_storage/>",
        "<!DOCTYPE a [<!ENTITY b 'c'>]><opencv_storage/>",
        "%YAML:1.0\n---\n- 3\n",
    ],
)
def test_storage_that_ended_the_process(text: str, tmp_path: Path) -> None:
    path = tmp_path / "camera.yml"
    path.write_text(text)
    with pytest.raises(CalibrationError, match=r"camera\.yml: .*;"):
        read_any(path, METRES, "opencv")


def test_rotations_are_inverse_to_each_other() -> None:
    rng = np.random.default_rng(0)
    vectors = [*rng.normal(0, 1, (20, 3)), np.zeros(3), [np.pi, 0, 0], [0, 1e-9, 0]]
    for vector in vectors:
        R = matrix_from_vector(np.array(vector))
        np.testing.assert_allclose(R @ R.T, np.eye(3), atol=1e-14)
        np.testing.assert_allclose(matrix_from_vector(vector_from_matrix(R)), R, atol=1e-12)
        np.testing.assert_allclose(matrix_from_quaternion(quaternion_from_matrix(R)), R, atol=1e-12)


def test_words_where_numbers_belong_name_the_file(tmp_path: Path) -> None:
    (tmp_path / "cameras.txt").write_text("one PINHOLE wide high 1 2 3 4\n")
    (tmp_path / "images.txt").write_text("")
    with pytest.raises(CalibrationError, match="damaged"):
        read_any(tmp_path)


def test_a_folder_with_a_rig_in_it_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "rig.yaml").write_text("cameras: {}\n")
    with pytest.raises(CalibrationError, match=r"a folder; give .*rig\.yaml"):
        format_of(tmp_path)


@pytest.mark.parametrize("name", [name for name in FORMATS if name != "densefit"])
def test_every_damage_names_file_and_remedy(name: str, tmp_path: Path) -> None:
    """Each file of each format: emptied, cut, and with its numbers gone."""
    path = path_for(name, tmp_path)
    write_any(path, rig_for(name), name)
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    for file in files:
        good = file.read_bytes()
        for bad in (b"", good[: len(good) // 2], good.replace(b"0", b"x"), b"\xff\xfe" + good):
            file.write_bytes(bad)
            try:
                read_any(path, METRES, name)
            except CalibrationError as error:
                assert str(error).startswith(str(tmp_path)) and ";" in str(error), str(error)
        file.write_bytes(good)
