"""Two calibrated cameras and their footage for the toy take."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from recordings import encode_video

from calibration import Camera, Rig, write_rig
from densefit.capture import MasterTimeline, load_take
from densefit.footage import write_footage
from densefit.landmarks.predictor import PredictOptions

FRAMES = 9


def camera(name: str, angle: float) -> Camera:
    """640 x 480, 0.8 m before the toy head, turned about y; the principal point is off centre."""
    c, s = np.cos(angle), np.sin(angle)
    T_camera_world = np.eye(4)
    T_camera_world[:3, :3] = [[c, 0, s], [0, 1, 0], [-s, 0, c]]
    T_camera_world[:3, 3] = [0.02, -0.01, 0.1]
    K = np.array([[700.0, 0, 330], [0, 710.0, 235], [0, 0, 1]])
    return Camera(name, 640, 480, "opencv", K, np.array([0.1, -0.02, 0, 0]), T_camera_world)


def write_toy_rig(out: Path) -> Rig:
    rig = Rig({"left": camera("left", 0.2), "right": camera("right", -0.3)}, None)
    write_rig(out / "rig.yaml", rig)
    return rig


def write_toy_footage(out: Path, timecode: str | None = None) -> None:
    """One film a camera of the toy rig; `right` has no master frame 0 and lags by one picture."""
    folder = out / "recordings"
    folder.mkdir()
    for name in ("left", "right"):
        metadata = {"timecode": timecode} if timecode else None
        encode_video(folder / f"{name}.mov", n=FRAMES, fps=25, metadata=metadata, size=(640, 480))
    (folder / "take.yaml").write_text(
        "rig: ../rig.yaml\ncameras:\n  left: left.mov\n  right: right.mov\n"
    )
    take = load_take([folder / "take.yaml"])
    times = {name: np.arange(FRAMES) / 25 for name in take.sources}
    index = np.stack([np.arange(FRAMES), np.arange(FRAMES) - 1], axis=1)
    timeline = MasterTimeline(np.arange(FRAMES) / 25 + 1.5, index, ("left", "right"))
    write_footage(out, take, timeline, times, PredictOptions())
