"""Live Link Face CSV: the take as the iPhone app records it, for Unreal, Faceit and the like."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from densefit.capture.timecode import format_timecode
from densefit.export.scene import ExportScene
from densefit.files import atomic_path
from densefit.footage import read_footage
from densefit.head.rotation import rotation_matrix

# The app writes three shapes in another order than Apple lists them.
_ORDER_OF_THE_APP = {"jawLeft": "jawRight", "jawRight": "jawLeft"} | {
    "mouthLeft": "mouthRight",
    "mouthRight": "mouthLeft",
}
ANGLES = ("HeadYaw", "HeadPitch", "HeadRoll") + tuple(
    f"{side}Eye{angle}" for side in ("Left", "Right") for angle in ("Yaw", "Pitch", "Roll")
)


def write_arkit_csv(scene: ExportScene, folder: Path) -> list[Path]:
    """arkit.csv: Timecode, BlendShapeCount, the 52 shapes and nine angles, one row a frame.

    Angles in radians, about axes with y up that look at the cameras: yaw turns to the subject's
    left, pitch looks down, roll tilts towards the subject's right shoulder. Frames without a head
    have no row.
    """
    shapes = [_ORDER_OF_THE_APP.get(name, name) for name in scene.head.expression_names]
    columns = [list(scene.head.expression_names).index(name) for name in shapes]
    frames = scene.posed_frames
    values = scene.expression(frames)[:, columns]
    angles = _angles(scene, frames)
    codes = timecodes(scene, frames)
    path = folder / "arkit.csv"
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        names = [name[0].upper() + name[1:] for name in shapes]
        writer.writerow(["Timecode", "BlendShapeCount", *names, *ANGLES])
        count = len(names) + len(ANGLES)
        for code, row in zip(codes, np.concatenate([values, angles], axis=1), strict=True):
            writer.writerow([code, count, *(f"{value:.8f}" for value in row)])
    return [path]


def timecodes(scene: ExportScene, frames: np.ndarray) -> list[str]:
    """Timecode of `frames`: the recordings' own where they have one, else time on the master clock.

    `--fps` counts from the first exported frame's timecode at that rate.
    """
    footage = read_footage(scene.out)
    known = footage is not None and np.isfinite(footage.timecode).all()
    moments = footage.timecode if footage is not None and known else scene.recorded.time
    drop_frame = footage is not None and known and footage.drop_frame
    start = moments[scene.recorded_frames[0]]
    own = scene.options.fps is None
    seconds = moments[frames] if own else start + scene.seconds(frames)
    return [format_timecode(max(s, 0.0), scene.fps, drop_frame) for s in seconds]


def _angles(scene: ExportScene, frames: np.ndarray) -> np.ndarray:
    """(N, 9) rad: yaw, pitch, roll of head, left eye and right eye."""
    head = scene.axes("y") @ rotation_matrix(scene.fit.rotation[frames])
    eyes = rotation_matrix(scene.fit.joints[frames, 2:])
    parts = [yaw_pitch_roll(matrix) for matrix in (head, eyes[:, 0], eyes[:, 1])]
    return np.concatenate(parts, axis=1)


def yaw_pitch_roll(matrix: np.ndarray) -> np.ndarray:
    """R = R_y(yaw) R_x(pitch) R_z(roll): rotations (N, 3, 3) -> (N, 3) rad, continuous over N."""
    yaw = np.arctan2(matrix[:, 0, 2], matrix[:, 2, 2])
    pitch = -np.arcsin(np.clip(matrix[:, 1, 2], -1, 1))
    roll = np.arctan2(matrix[:, 1, 0], matrix[:, 1, 1])
    return np.stack([np.unwrap(yaw), pitch, np.unwrap(roll)], axis=1)
