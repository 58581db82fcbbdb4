"""Live Link tables, point caches, BVH and nerfstudio, read back by their own rules."""

from __future__ import annotations

import csv
import json
import shutil
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from recordings import read_number

from calibration import read_rig, write_rig
from densefit.capture.timecode import format_timecode, parse_timecode
from densefit.errors import InputError
from densefit.export.arkit import write_arkit_csv
from densefit.export.bvh import write_bvh
from densefit.export.nerfstudio import write_nerfstudio
from densefit.export.point_cache import write_pc2
from densefit.export.scene import ExportOptions, ExportScene, frame_vertices, load_scene
from densefit.head.model import HeadModel
from densefit.head.rotation import continuous_axis_angle, rotation_matrix
from tests.export.rig_fixture import write_toy_footage, write_toy_rig


def about(axis: int, angle: float) -> np.ndarray:
    vector = np.zeros(3)
    vector[axis] = angle
    return rotation_matrix(vector)


def read_table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_live_link_table(scene: ExportScene, tmp_path: Path):
    rows = read_table(write_arkit_csv(scene, tmp_path)[0])
    frames = scene.posed_frames
    assert len(rows) == len(frames) and len(rows[0]) == 2 + 61
    assert {row["BlendShapeCount"] for row in rows} == {"61"}
    expression = scene.expression(frames)
    for k, name in enumerate(scene.head.expression_names):
        column = [float(row[name[0].upper() + name[1:]]) for row in rows]
        np.testing.assert_allclose(column, expression[:, k], atol=1e-7)
    y_up = scene.axes("y") @ rotation_matrix(scene.fit.rotation[frames])
    for row, expected in zip(rows, y_up, strict=True):
        yaw, pitch, roll = (float(row[f"Head{a}"]) for a in ("Yaw", "Pitch", "Roll"))
        np.testing.assert_allclose(about(1, yaw) @ about(0, pitch) @ about(2, roll), expected,
                                   atol=1e-6)  # fmt: skip
    assert rows[0]["Timecode"] == "00:00:01:12.500"  # the toy take begins at 1.5 s, 25 frames/s


def test_gaze_angles_are_those_of_the_eye_joints(scene: ExportScene, tmp_path: Path):
    joints = scene.fit.joints.copy()
    joints[:, 2] = [0.0, 0.3, 0.0]  # the left eye looks to the subject's left
    joints[:, 3] = [-0.2, 0.0, 0.0]  # the right eye looks up
    still = replace(scene, fit=replace(scene.fit, joints=joints))
    row = read_table(write_arkit_csv(still, tmp_path)[0])[0]
    assert float(row["LeftEyeYaw"]) == pytest.approx(0.3)
    assert float(row["RightEyePitch"]) == pytest.approx(-0.2)
    assert float(row["EyeLookOutLeft"]) > 0 and float(row["EyeLookUpRight"]) > 0


def test_timecode_of_the_recordings_is_kept(out: Path, head: HeadModel, tmp_path: Path):
    write_toy_rig(out)
    write_toy_footage(out, timecode="10:20:30:05")
    scene = load_scene(out, head, ExportOptions())
    rows = read_table(write_arkit_csv(scene, tmp_path)[0])
    assert [row["Timecode"] for row in rows[:3]] == [
        "10:20:30:05.000", "10:20:30:06.000", "10:20:30:07.000",
    ]  # fmt: skip
    restated = load_scene(out, head, ExportOptions(fps=50, frames="1:"))
    rows = read_table(write_arkit_csv(restated, tmp_path)[0])
    # 6 frames of 1/25 s are 12 of 1/50 s; then one number a row, twice as many rows a second.
    assert [row["Timecode"] for row in rows[:2]] == ["10:20:30:12.000", "10:20:30:13.000"]
    assert rows[-1]["Timecode"] == "10:20:30:26.000"
    here = restated.posed_frames
    head_yaw = [float(row["HeadYaw"]) for row in rows]
    assert len(head_yaw) == len(here) == 3 + 7


@pytest.mark.parametrize("text", ["00:01:00;02", "00:10:00;00", "01:59:59;29", "23:59:59;29"])
def test_drop_frame_labels_come_back(text: str):
    from fractions import Fraction

    seconds = parse_timecode(text, Fraction(30000, 1001))
    assert (
        format_timecode(seconds, 30000 / 1001, drop_frame=True) == text.replace(";", ":") + ".000"
    )


def test_point_cache(scene: ExportScene, tmp_path: Path):
    part = replace(scene, frames=np.arange(1, 7), options=ExportOptions(unit="cm"))
    cache, mesh = write_pc2(part, tmp_path)
    data = cache.read_bytes()
    magic, version, count, start, step, samples = struct.unpack_from("<12siiffi", data)
    assert (magic, version, start, step, samples) == (b"POINTCACHE2\0", 1, 1.0, 1.0, 6)
    points = np.frombuffer(data, "<f4", offset=32).reshape(samples, count, 3)
    expected = 100 * frame_vertices(scene.fit, scene.head)[1:7]
    expected[2:4] = expected[1]  # frames 3 and 4 have no head
    np.testing.assert_allclose(points, expected, atol=1e-4)
    assert sum(line.startswith("v ") for line in mesh.read_text().splitlines()) == count


def test_bvh_moves_the_joints(scene: ExportScene, tmp_path: Path):
    lines = write_bvh(scene, tmp_path)[0].read_text().splitlines()
    motion = lines.index("MOTION")
    rows = np.array([line.split() for line in lines[motion + 3 :]], float)
    assert lines[motion + 1] == f"Frames: {len(rows)}" and rows.shape == (9, 6 + 3 * 3)
    assert float(lines[motion + 2].split()[-1]) == pytest.approx(0.04)
    names = [line.split()[1] for line in lines if "JOINT" in line or "ROOT" in line]
    assert names == ["head", "neck", "left_eye", "right_eye"]
    y_up = scene.axes("y")
    for t in (0, 5, 8):
        np.testing.assert_allclose(rows[t, :3], y_up @ scene.fit.translation[t], atol=1e-5)
        yaw, pitch, roll = np.radians(rows[t, 3:6])
        turned = about(1, yaw) @ about(0, pitch) @ about(2, roll)
        np.testing.assert_allclose(turned, y_up @ rotation_matrix(scene.fit.rotation[t]), atol=1e-6)
        yaw, pitch, roll = np.radians(rows[t, 9:12])
        turned = about(1, yaw) @ about(0, pitch) @ about(2, roll)
        np.testing.assert_allclose(turned, rotation_matrix(scene.fit.joints[t, 2]), atol=1e-6)
    np.testing.assert_array_equal(rows[3], rows[2])  # no head in frames 3 and 4


def bvh_rotations(path: Path) -> dict[str, np.ndarray]:
    """Rotations (N, 3, 3) of each joint in the world, as a reader composes them, and angles (N, 3)
    in degrees as `NAME angles`."""
    lines = [line.split() for line in path.read_text().splitlines()]
    rows = np.array(lines[[line[0] for line in lines].index("MOTION") + 3 :], float)
    found: dict[str, np.ndarray] = {}
    above, name, column = [], "", 0
    for words in lines:
        if words[0] in ("ROOT", "JOINT", "End"):
            name = words[1]
        elif words[0] == "{":
            above.append(name)
        elif words[0] == "}":
            above.pop()
        elif words[0] == "CHANNELS":
            turn = found[above[-2]] if len(above) > 1 else np.eye(3)
            channels, count = words[2:], int(words[1])
            for axis, angle in zip(channels, rows[:, column : column + count].T, strict=True):
                if axis.endswith("rotation"):
                    vectors = np.zeros((len(rows), 3))
                    vectors[:, "XYZ".index(axis[0])] = np.radians(angle)
                    turn = turn @ rotation_matrix(vectors)
            found[name] = turn
            found[f"{name} angles"] = rows[:, column + count - 3 : column + count]
            column += count
    return found


@pytest.mark.parametrize("up", ["y", "z"])
@pytest.mark.parametrize("stabilize", [False, True])
def test_bvh_angles_are_those_of_the_fit_and_never_jump(
    out: Path, head: HeadModel, tmp_path: Path, up: str, stabilize: bool
):
    """A head that looks at the cameras, nods and turns a little, is far from singular angles."""
    write_toy_rig(out)
    plain = load_scene(out, head, ExportOptions(up=up, stabilize=stabilize))
    time = plain.fit.time[:, None]
    motion = np.array([0.2, 0.3, 0.1]) * np.sin(time * [7.0, 5.0, 9.0])
    rotation = rotation_matrix(np.array([np.pi, 0, 0])) @ rotation_matrix(motion)
    if stabilize:
        rotation = np.eye(3) + 0 * rotation
    vectors = continuous_axis_angle(rotation)
    scene = replace(plain, fit=replace(plain.fit, rotation=vectors))
    found = bvh_rotations(write_bvh(scene, tmp_path)[0])
    shown = [t for t in range(scene.fit.n_frames) if scene.fit.posed[t]]
    expected = scene.axes(up) @ rotation
    np.testing.assert_allclose(found["head"][shown], expected[shown], atol=1e-6)
    eye = expected @ rotation_matrix(np.nan_to_num(scene.fit.joints[:, 2]))
    np.testing.assert_allclose(found["left_eye"][shown], eye[shown], atol=1e-6)
    steps = np.linalg.norm(np.diff(motion[shown], axis=0), axis=1).max()
    for name, angles in found.items():
        if name in ("world angles", "head angles"):
            assert np.abs(np.diff(angles, axis=0)).max() <= 1.5 * np.degrees(steps), name


@pytest.mark.parametrize("stabilize", [False, True])
def test_nerfstudio_cameras_see_the_head(out: Path, head: HeadModel, tmp_path, stabilize: bool):
    import cv2

    write_toy_rig(out)
    write_toy_footage(out)
    scene = load_scene(out, head, ExportOptions(stabilize=stabilize, frames="1:8"))
    path = write_nerfstudio(scene, tmp_path)[0]
    document = json.loads(path.read_text())
    assert document["camera_indices"] == [0, 1] and document["timestep_indices"] == list(range(5))
    assert len(document["frames"]) == 10
    rig = read_rig(out / "rig.yaml")
    world = frame_vertices(scene.recorded, head)
    exported = frame_vertices(scene.fit, head) @ scene.axes("y").T
    for entry in document["frames"]:
        frame, camera = entry["timestep_index_original"], rig.cameras[entry["camera_id"]]
        image = cv2.imread(str(tmp_path / entry["file_path"]))
        assert read_number(image) == frame - entry["camera_index"]  # `right` lags by one
        local = (exported[frame] - np.array(entry["transform_matrix"])[:3, 3]) @ np.array(
            entry["transform_matrix"]
        )[:3, :3]
        x, y = local[:, 0] / -local[:, 2], -local[:, 1] / -local[:, 2]
        shown = np.stack([x * entry["fl_x"] + entry["cx"], y * entry["fl_y"] + entry["cy"]], axis=1)
        ahead = world[frame] @ camera.T_camera_world[:3, :3].T + camera.T_camera_world[:3, 3]
        expected = ahead / ahead[:, 2:] @ camera.K.T
        np.testing.assert_allclose(shown - 0.5, expected[:, :2], atol=0.05)
        assert (entry["k1"], entry["w"], entry["h"]) == (0.1, 640, 480)


def nerfstudio_of(out: Path, head: HeadModel, folder: Path, **changes: object) -> dict:
    """transforms.json, with the camera `right` changed."""
    rig = write_toy_rig(out)
    cameras = {**rig.cameras, "right": replace(rig.cameras["right"], **changes)}
    write_rig(out / "rig.yaml", replace(rig, cameras=cameras))
    write_toy_footage(out)
    scene = load_scene(out, head, ExportOptions(frames="1:3"))
    return json.loads(write_nerfstudio(scene, folder)[0].read_text())


LENS = {"camera_model", "fl_x", "fl_y", "cx", "cy", "w", "h", "camera_angle_x", "camera_angle_y"}


def test_nerfstudio_states_one_lens_for_all_only_if_it_is(out: Path, head: HeadModel, tmp_path):
    """Nerfstudio prefers what stands at the top to what each picture says."""
    document = nerfstudio_of(out, head, tmp_path)
    assert set(document) >= LENS | {"k1", "k2", "p1", "p2"}
    K = np.array([[900.0, 0, 330], [0, 710.0, 235], [0, 0, 1]])
    dist = np.array([0.1, -0.3, 0, 0])  # k1 is the same, but the distortion is another
    shutil.rmtree(out / "recordings")
    document = nerfstudio_of(out, head, tmp_path, K=K, dist=dist)
    assert set(document) & (LENS | {"k1", "k2", "p1", "p2"}) == LENS - {"fl_x", "camera_angle_x"}
    for entry in document["frames"]:
        right = entry["camera_id"] == "right"
        assert (entry["fl_x"], entry["k2"]) == ((900, -0.3) if right else (700, -0.02))
        assert {**entry, **document}.items() >= entry.items()


def test_nerfstudio_says_which_lens_is_fisheye(out: Path, head: HeadModel, tmp_path, capsys):
    document = nerfstudio_of(out, head, tmp_path, model="opencv_fisheye")
    assert "camera_model" not in document
    models = {entry["camera_id"]: entry["camera_model"] for entry in document["frames"]}
    assert models == {"left": "OPENCV", "right": "OPENCV_FISHEYE"}
    assert "Nerfstudio reads one for all" in capsys.readouterr().err
    # instant-ngp multiplies by a number of that name.
    assert "scale" not in document and document["scale_source"] == "calibrated"


def test_nerfstudio_without_footage_says_what_to_do(out: Path, head: HeadModel, tmp_path):
    write_toy_rig(out)
    scene = load_scene(out, head, ExportOptions())
    with pytest.raises(InputError, match="run fit-rig once more"):
        write_nerfstudio(scene, tmp_path)
