"""`densefit inspect` and --dry-run: the whole picture, and nothing written."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
from recordings import MakeVideo

from densefit import inspection
from densefit.capture import load_take
from densefit.cli import main
from densefit.errors import InputError
from densefit.inspection import clock_text, inspect_take
from densefit.landmarks.predictor import PredictOptions


@pytest.fixture
def take(tmp_path: Path, make_video: MakeVideo) -> Path:
    """Two cameras; the right one starts 2 frames late, dropped two frames, and is calibrated for
    twice its size."""
    make_video("left.mov", n=40, metadata={"timecode": "10:00:00:00"})
    pts = [i for i in range(40) if i not in (7, 20)]
    make_video(
        "right.mov",
        n=38,
        pts=pts,
        time_base=Fraction(1, 25),
        metadata={"timecode": "10:00:00:02"},
    )
    (tmp_path / "rig.yaml").write_text(
        "version: 1\ncameras:\n  left: {width: 96, height: 64}\n"
        "  right: {width: 192, height: 128, K: [[200, 0, 96], [0, 200, 64], [0, 0, 1]]}\n"
    )
    (tmp_path / "take.yaml").write_text(
        "rig: rig.yaml\ncameras: {left: left.mov, right: right.mov}\noffsets: {right: 1f}\n"
    )
    return tmp_path / "take.yaml"


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspection, "_network_rate", lambda options, cameras: 50.0)


def test_the_whole_picture(take: Path, fast: None) -> None:
    report = inspect_take(load_take([take]))
    left, right = report.cameras["left"], report.cameras["right"]
    assert (left.codec, left.frames, left.dropped, left.timecode) == (
        "h264", 40, 0, "10:00:00.000",
    )  # fmt: skip
    assert (right.frames, right.dropped, right.timecode) == (38, 2, "10:00:00.080")
    assert right.offset == pytest.approx(0.04)
    assert right.calibration == "K only, scaled from 192x128"
    assert left.calibration == "none"
    assert report.sync == "timecode"
    # Timecode and offset together: three frames later.
    assert (report.master_frames, report.complete_frames) == (43, 35)
    assert report.master_fps == pytest.approx(25)
    assert any("right: 2 frames dropped" in remark for remark in report.remarks)
    assert report.estimate is not None
    assert report.estimate.predict_seconds >= 78 / 50
    assert report.estimate.disk_mb == pytest.approx(78 * 703 * 12 / 1e6)


def test_two_cameras_of_one_recording_are_remarked(take: Path) -> None:
    take.write_text(take.read_text().replace("right.mov", "left.mov"))
    report = inspect_take(load_take([take]), measure=False)
    assert "left and right: the same recording" in report.remarks


def test_what_costs_more(take: Path, fast: None) -> None:
    """Unknown focal lengths, and more frames; a report of landmarks alone has no fit."""
    opened = load_take([take])
    cost = inspect_take(opened).estimate
    fewer = inspect_take(opened, PredictOptions(every=4)).estimate
    alone = inspect_take(opened, fit=False).estimate
    assert opened.rig is not None and cost is not None and fewer is not None and alone is not None
    known = replace(opened.rig.cameras["right"], name="left")
    cameras = {**opened.rig.cameras, "left": known}
    calibrated = inspect_take(replace(opened, rig=replace(opened.rig, cameras=cameras))).estimate
    assert calibrated is not None and calibrated.fit_seconds < 0.5 * cost.fit_seconds
    assert fewer.fit_seconds < cost.fit_seconds and fewer.memory_mb < cost.memory_mb
    assert (alone.fit_seconds, alone.overlay_seconds) == (0, 0)


def test_costs_are_those_that_were_measured(
    tmp_path: Path, make_video: MakeVideo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """448 frames of 512 x 512 px took 13 s to fit, 9 s to draw and 4 s to report, where the
    networks did 200 crops a second; they were once estimated at 30 and 30 s."""
    monkeypatch.setattr(inspection, "_network_rate", lambda options, cameras: 200.0)
    video = make_video("left.mp4", n=448, size=(512, 512))
    cost = inspect_take(load_take([video])).estimate
    assert cost is not None
    assert cost.fit_seconds == pytest.approx(13, rel=0.25)
    assert cost.overlay_seconds == pytest.approx(13, rel=0.25)


def test_ranges_count(take: Path, fast: None) -> None:
    report = inspect_take(load_take([take]), PredictOptions(start="10", end="30", every=2))
    assert report.cameras["left"].chosen_frames == 10
    with pytest.raises(InputError, match=r"left\.mov: no frame in the chosen range"):
        inspect_take(load_take([take]), PredictOptions(start="100"))


def test_the_command_prints_json_or_a_table(
    take: Path, fast: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["inspect", str(take), "--json", "--sync", "pts"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["sync"] == "pts" and set(report["cameras"]) == {"left", "right"}
    assert report["cameras"]["right"]["dropped"] == 2
    assert main(["inspect", str(take)]) == 0
    captured = capsys.readouterr()
    for part in ("left.mov (h264 yuv420p)", "96x64", "2 dropped", "sync by timecode", "memory"):
        assert part in captured.out
    assert captured.err == ""


def test_photos_have_sizes_and_no_clock(
    tmp_path: Path, fast: None, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, size in enumerate([(64, 96), (64, 96), (80, 60)]):
        cv2.imwrite(str(folder / f"{number}.png"), np.zeros((*size, 3), np.uint8))
    assert main(["inspect", str(folder)]) == 0
    said = capsys.readouterr().out
    for part in ("96x64, also 60x80", "3 separate photos"):
        assert part in said
    assert "frames/s" not in said and "s long" not in said


@pytest.mark.parametrize("command", ["predict", "fit-rig"])
def test_dry_runs_write_nothing(
    command: str, take: Path, fast: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main([command, str(take), "-o", str(out), "--dry-run"]) == 0
    assert "to do" in capsys.readouterr().out
    assert not out.exists()


def test_dry_run_finds_what_the_run_would_refuse(
    take: Path, fast: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "out" / "landmarks"
    folder.mkdir(parents=True)
    (folder / "left.npz").write_bytes(b"made by something else")
    assert main(["predict", str(take), "-o", str(tmp_path / "out"), "--dry-run"]) == 3
    assert "left.npz: made from other" in capsys.readouterr().err
    assert (folder / "left.npz").read_bytes() == b"made by something else"


def test_the_network_is_really_tried() -> None:
    assert inspection._network_rate(PredictOptions(device="cpu", threads=1)) > 0


def test_clock_text() -> None:
    assert clock_text(3600 * 23 + 59.5) == "23:00:59.500"
