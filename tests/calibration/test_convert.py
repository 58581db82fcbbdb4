"""Rigs of Caliscope and aniposelib, and takes made of their recordings."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from calibration import CalibrationError
from calibration.convert import read_toml_rig, write_take

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


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_caliscope(tmp_path: Path) -> None:
    rig = read_toml_rig(write(tmp_path / "camera_array.toml", CALISCOPE))
    assert list(rig.cameras) == ["cam_0", "cam_2"]
    camera = rig.cameras["cam_0"]
    assert (camera.width, camera.height, camera.model) == (1280, 720, "opencv")
    np.testing.assert_array_equal(camera.T_camera_world[:3, 3], [0.1, -0.2, 0.6])
    np.testing.assert_array_equal(camera.T_camera_world[1, :3], [0, 0, -1])
    np.testing.assert_array_equal(camera.dist, [-0.33, 0.046, -0.004, 0.004, 0.066])
    assert rig.cameras["cam_2"].T_camera_world is None


def test_aniposelib_vectors_units_and_names(tmp_path: Path) -> None:
    rig = read_toml_rig(write(tmp_path / "calibration.toml", ANIPOSELIB), units="mm")
    assert list(rig.cameras) == ["A", "B"]
    T = rig.cameras["A"].T_camera_world
    np.testing.assert_allclose(T[:3, 3], [-0.0942, 0.00877, -0.0972])
    expected = cv2.Rodrigues(np.array([0.0145, 0.1363, 0.009]))[0]
    np.testing.assert_allclose(T[:3, :3], expected, atol=1e-12)
    assert rig.cameras["A"].model == "opencv_fisheye"
    np.testing.assert_array_equal(rig.cameras["B"].T_camera_world, np.eye(4))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = [", "not valid TOML"),
        ("x = 1", "no calibrated camera"),
        (ANIPOSELIB.replace('"B"', '"A"'), "'A' appears twice"),
        (ANIPOSELIB.replace("size = [1280, 720]", "size = 3"), "camera 'A': size"),
        (CALISCOPE.replace("[903.5, 0.0, 618.3]", "[nan, 0.0, 618.3]"), "'cam_0': matrix"),
        (CALISCOPE.replace("translation = [0.1, -0.2, 0.6]", "translation = [0.1]"), "translation"),
        (CALISCOPE.replace("0.0, -1.0]", "0.0, 1.0]"), "left-handed"),
    ],
)
def test_wrong_files_are_refused_in_one_line(text: str, message: str, tmp_path: Path) -> None:
    path = write(tmp_path / "rig.toml", text)
    with pytest.raises(CalibrationError, match=message) as caught:
        read_toml_rig(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_missing_toml(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match="no such file"):
        read_toml_rig(tmp_path / "none.toml")


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (["A.mp4", "B.mp4"], {"A": "A.mp4", "B": "B.mp4"}),
        (["take1-A.mov", "take1-B.mov"], {"A": "take1-A.mov", "B": "take1-B.mov"}),
        (["A.mp4", "notes.txt"], {"A": "A.mp4"}),
    ],
)
def test_take_joins_videos_by_name(
    files: list[str], expected: dict[str, str], tmp_path: Path
) -> None:
    folder = tmp_path / "videos"
    folder.mkdir()
    for name in files:
        (folder / name).touch()
    found = write_take(tmp_path / "take.yaml", tmp_path / "rig.yaml", ["A", "B"], folder)
    data = yaml.safe_load((tmp_path / "take.yaml").read_text())
    assert data == {
        "rig": "rig.yaml",
        "cameras": {name: f"videos/{file}" for name, file in expected.items()},
    }
    assert set(found.missing) == {"A", "B"} - set(expected)


def test_take_joins_by_number_and_names_the_table(tmp_path: Path) -> None:
    for name in ("port_0.mp4", "port_2.mp4", "timestamps.csv"):
        (tmp_path / name).touch()
    write_take(
        tmp_path / "take.yaml",
        tmp_path / "rig.yaml",
        ["cam_0", "cam_2"],
        tmp_path,
        tmp_path / "timestamps.csv",
    )
    data = yaml.safe_load((tmp_path / "take.yaml").read_text())
    assert data["cameras"] == {"cam_0": "port_0.mp4", "cam_2": "port_2.mp4"}
    assert data["sync"] == "timestamps.csv"


def test_take_refuses_to_guess(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match="no such folder"):
        write_take(tmp_path / "take.yaml", "rig.yaml", ["A"], tmp_path / "none")
    with pytest.raises(CalibrationError, match="no video belongs"):
        write_take(tmp_path / "take.yaml", "rig.yaml", ["A"], tmp_path)
    (tmp_path / "x-A.mp4").touch()
    (tmp_path / "y-A.mp4").touch()
    with pytest.raises(CalibrationError, match="could both be camera 'A'"):
        write_take(tmp_path / "take.yaml", "rig.yaml", ["A"], tmp_path)
    assert not (tmp_path / "take.yaml").exists()
