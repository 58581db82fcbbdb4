"""`densefit rig convert`, from another tool's files to a take that opens."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from recordings import MakeVideo

from calibration import read_rig
from densefit.capture import load_take, master_timeline, open_frames
from densefit.cli import main

CAMERA = """
[cameras.{number}]
cam_id = {number}
size = [96, 64]
matrix = [[90.0, 0.0, 47.5], [0.0, 90.0, 31.5], [0.0, 0.0, 1.0]]
distortions = [0.0, 0.0, 0.0, 0.0, 0.0]
translation = [0.1, 0.2, 0.{number}]
rotation = [0.0, 0.{number}, 0.0]
"""


@pytest.fixture
def recording(tmp_path: Path, make_video: MakeVideo) -> Path:
    """camera_array.toml, cam_1.mp4, cam_2.mp4 and timestamps.csv as Caliscope leaves them."""
    text = "".join(CAMERA.format(number=number) for number in (1, 2))
    (tmp_path / "camera_array.toml").write_text(text)
    rows = ["sync_index,cam_id,frame_index,frame_time"]
    for i in range(6):
        rows.append(f"{26 + i},2,{26 + i},{123.3 + i / 25:.4f}")
        if i != 3:  # camera 1 dropped a frame
            rows.append(f"{26 + i},1,{26 + i},{123.301 + i / 25:.4f}")
    (tmp_path / "timestamps.csv").write_text("\n".join(rows) + "\n")
    make_video("cam_1.mp4", n=5)
    make_video("cam_2.mp4", n=6)
    return tmp_path


def test_nothing_is_written_without_the_videos(
    recording: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, empty = recording / "new", recording / "empty"
    empty.mkdir()
    command = ["rig", "convert", str(recording / "camera_array.toml"), str(out)]
    assert main([*command, "--take", str(empty)]) == 3
    assert "no video belongs to" in capsys.readouterr().err
    assert not out.exists()
    assert main([*command, "--take", str(recording)]) == 0


def test_a_take_file_is_no_rig(recording: Path, capsys: pytest.CaptureFixture[str]) -> None:
    take = recording / "take.yaml"
    take.write_text("cameras: {cam_1: cam_1.mp4}\n")
    assert main(["rig", "convert", str(take), str(recording / "new")]) == 3
    assert "this is a take file" in capsys.readouterr().err
    out = str(recording / "out")
    assert main(["fit-rig", str(take), str(recording / "cam_2.mp4"), "-o", out]) == 3
    assert "--same-person" in capsys.readouterr().err


def test_a_dry_run_refuses_an_impossible_folder(
    recording: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for command in ("predict", "fit-rig"):
        out = recording / "timestamps.csv" / "out"
        assert main([command, str(recording / "cam_1.mp4"), "-o", str(out), "--dry-run"]) == 3
        assert "cannot be an output folder" in capsys.readouterr().err


def test_rig_alone(recording: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = recording / "new" / "rig.yaml"
    assert main(["rig", "convert", str(recording / "camera_array.toml"), str(out)]) == 0
    assert "2 cameras" in capsys.readouterr().out
    assert list(read_rig(out).cameras) == ["cam_1", "cam_2"]
    assert not (out.parent / "take.yaml").exists()


def test_take(recording: Path) -> None:
    out = recording / "take"
    toml = str(recording / "camera_array.toml")
    assert main(["rig", "convert", toml, str(out), "--take", str(recording)]) == 0
    take = load_take([out / "take.yaml"])
    assert take.sync == "csv"
    times = {n: np.array([f.time for f in open_frames(s)]) for n, s in take.sources.items()}
    line = master_timeline(take, times)
    np.testing.assert_array_equal(line.index[:, 0], [0, 1, 2, -1, 3, 4])
    np.testing.assert_array_equal(line.index[:, 1], np.arange(6))
    assert line.time[0] == pytest.approx(123.3005)


def test_existing_files_are_kept(recording: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = recording / "rig.yaml"
    out.write_text("mine")
    arguments = ["rig", "convert", str(recording / "camera_array.toml"), str(out)]
    assert main(arguments) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert out.read_text() == "mine"
    assert main([*arguments, "--overwrite"]) == 0
    assert list(read_rig(out).cameras) == ["cam_1", "cam_2"]


@pytest.mark.parametrize(
    "to, part", [("colmap", "images.txt"), ("colmap-bin", "images.bin"), ("easymocap", "extri.yml")]
)
def test_existing_files_of_a_folder_are_kept(
    recording: Path, to: str, part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = recording / "out"
    out.mkdir()
    (out / "readme.txt").write_text("a folder may hold other things")
    arguments = ["rig", "convert", str(recording / "camera_array.toml"), str(out), "--to", to]
    assert main(arguments) == 0
    (out / part).write_text("mine")
    assert main(arguments) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert (out / part).read_text() == "mine"
    assert main([*arguments, "--overwrite"]) == 0
    assert (out / part).read_bytes() != b"mine"
    assert main([*arguments[:3], str(out / "readme.txt"), "--to", to, "--overwrite"]) == 2
    assert "takes a folder" in capsys.readouterr().err


def test_bad_input(recording: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = recording / "o"
    toml = str(recording / "camera_array.toml")
    for arguments, code, message in (
        (["none.toml", str(out)], 3, "none.toml: no such file"),
        ([toml, str(out), "--take", "nowhere"], 3, "nowhere: no such folder"),
        ([toml, str(out / "2"), "--timestamps", "t.csv"], 2, "--take"),
        ([toml, "/proc/no/rig.yaml"], 3, "cannot write"),
    ):
        assert main(["rig", "convert", *arguments]) == code
        errors = capsys.readouterr().err
        assert message in errors
        assert errors.count("\n") == 1


CALISCOPE = Path(os.environ.get("DENSEFIT_DATA", "")) / "rigs" / "caliscope4"


@pytest.mark.skipif(
    "DENSEFIT_DATA" not in os.environ or not CALISCOPE.is_dir(),
    reason="DENSEFIT_DATA does not name the folder of real recordings",
)
def test_a_real_recording(tmp_path: Path) -> None:
    toml = str(CALISCOPE / "camera_array.toml")
    videos = str(CALISCOPE / "calibration" / "extrinsic")
    assert main(["rig", "convert", toml, str(tmp_path), "--take", videos]) == 0
    take = load_take([tmp_path])
    from densefit.capture.video import frame_times

    times = {name: frame_times(source.path) for name, source in take.sources.items()}
    line = master_timeline(take, times)
    assert line.index.shape == (111, 4)
    assert (line.index == np.arange(111)[:, None]).all()
