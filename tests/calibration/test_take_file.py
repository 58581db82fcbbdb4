"""Takes made of recordings that lie in a folder."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from calibration import CalibrationError
from calibration.take_file import videos_of, write_take


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


@pytest.mark.parametrize(
    ("cameras", "files", "expected"),
    [
        # One number twice among the cameras says nothing.
        (["front1", "side1"], ["front1.mp4"], {"front1": "front1.mp4"}),
        (["front1", "side2"], ["front1.mp4", "front2.mp4"], {"front1": "front1.mp4"}),
        # The exact name first, whatever the order.
        (["left", "a-left"], ["a-left.mp4", "left.mp4"],
         {"left": "left.mp4", "a-left": "a-left.mp4"}),
        (["cam_1", "cam_2"], ["cam_1.mp4", "GX2.mp4"], {"cam_1": "cam_1.mp4", "cam_2": "GX2.mp4"}),
    ],
)  # fmt: skip
def test_a_video_is_given_to_one_camera(
    cameras: list[str], files: list[str], expected: dict[str, str], tmp_path: Path
) -> None:
    for name in files:
        (tmp_path / name).touch()
    found = videos_of(cameras, tmp_path)
    assert {name: file.name for name, file in found.videos.items()} == expected
    assert set(found.missing) == set(cameras) - set(expected)


def test_a_video_that_two_cameras_claim_is_refused(tmp_path: Path) -> None:
    (tmp_path / "left-right.mp4").touch()
    with pytest.raises(CalibrationError, match="could be camera 'left' and camera 'right'"):
        videos_of(["left", "right"], tmp_path)


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
