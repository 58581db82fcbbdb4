"""Memory does not grow with the length of a take."""

from __future__ import annotations

import json
import multiprocessing
from pathlib import Path

import numpy as np
import pytest
from killing import long_predict_stage

from densefit.capture import VideoWriter

CAMERAS = ("a", "b", "c", "d")
FPS = 30


def write_take(folder: Path, minutes: int) -> Path:
    """Four cameras that see a white square; small pictures, for their number is what matters."""
    folder.mkdir()
    picture = np.full((48, 64, 3), 30, np.uint8)
    picture[12:36, 20:44] = 255
    with VideoWriter(folder / "a.mp4", FPS, 64, 48) as video:
        for _ in range(minutes * 60 * FPS):
            video.write(picture)
    for name in CAMERAS[1:]:
        (folder / f"{name}.mp4").symlink_to(folder / "a.mp4")
    rig = "".join(f"  {name}: {{width: 64, height: 48}}\n" for name in CAMERAS)
    (folder / "rig.yaml").write_text(f"version: 1\ncameras:\n{rig}")
    files = "".join(f"  {name}: {name}.mp4\n" for name in CAMERAS)
    (folder / "take.yaml").write_text(f"rig: rig.yaml\ncameras:\n{files}")
    return folder / "take.yaml"


def peak_mb(take: Path, out: Path) -> float:
    """Largest resident memory of a process that predicts the take, MB."""
    result = out.parent / f"{out.name}.json"
    process = multiprocessing.get_context("spawn").Process(
        target=long_predict_stage, args=(take, out, result)
    )
    process.start()
    process.join()
    assert process.exitcode == 0
    return float(json.loads(result.read_text())["peak_mb"])


@pytest.mark.stress
def test_predict_streams(tmp_path: Path) -> None:
    """1, 5 and 20 simulated minutes of 4 cameras: less than 1 MB more a minute."""
    minutes = (1, 5, 20)
    peaks = [peak_mb(write_take(tmp_path / f"take{m}", m), tmp_path / f"out{m}") for m in minutes]
    print({m: round(peak, 1) for m, peak in zip(minutes, peaks, strict=True)})
    for m, peak in zip(minutes[1:], peaks[1:], strict=True):
        assert (peak - peaks[0]) / (m - minutes[0]) < 1, peaks
    frames = len(np.load(tmp_path / "out20" / "landmarks" / "a.npz")["time"])
    assert frames == 20 * 60 * FPS
