"""BVH: the motion of head and eyes as a skeleton, for motion-capture tools."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from densefit.export.arkit import yaw_pitch_roll
from densefit.export.orientation import Z_FROM_Y
from densefit.export.scene import ExportScene
from densefit.files import write_text
from densefit.head.rotation import rotation_matrix

CHANNELS = "Yrotation Xrotation Zrotation"
LOOK = 0.03
"""m: length of the end sites in front of the eyes, for viewers to draw."""


def write_bvh(scene: ExportScene, folder: Path) -> list[Path]:
    """head.bvh: root `head` with position and rotation, children `neck`, `left_eye`, `right_eye`.

    With z up the root is `world`, which carries the position and a constant quarter turn about x;
    `head` turns below it as with y up: by itself it would stand at a quarter turn about x, where
    these angles are singular. Axes of `up`, y-up by default as BVH readers expect; lengths in
    `unit`; angles in degrees. The neck turns shoulders against the head and so is a child of it.
    BVH has a fixed frame time: the take's rate or `--fps`; frames without a head repeat the last
    one.
    """
    up = scene.up_of("y")
    turn, scale = scene.axes(up), scene.scale
    frames = _held(scene)
    fit = scene.fit
    parts = [fit.translation[frames] @ turn.T * scale]
    root = Z_FROM_Y if up == "z" else np.eye(3)
    if up == "z":
        quarter = np.degrees(yaw_pitch_roll(root[None]))
        parts.append(np.repeat(quarter, len(frames), axis=0))
    rotation = (root.T @ turn) @ rotation_matrix(fit.rotation[frames])
    parts.append(np.degrees(yaw_pitch_roll(rotation)))
    for joint in (0, 2, 3):
        turned = rotation_matrix(fit.joints[frames, joint])
        parts.append(np.degrees(yaw_pitch_roll(turned)))
    rows = [" ".join(f"{value:.6f}" for value in row) for row in np.concatenate(parts, axis=1)]
    lines = [
        *_hierarchy(scene.joint_centres() * scale, scale, up),
        "MOTION",
        f"Frames: {len(rows)}",
        f"Frame Time: {1 / scene.fps:.8f}",
        *rows,
    ]
    path = folder / "head.bvh"
    write_text(path, "\n".join(lines) + "\n")
    return [path]


def _held(scene: ExportScene) -> np.ndarray:
    """(N,) the frame to show at each exported frame: itself or the last one with a head."""
    posed = scene.posed_frames
    place = np.searchsorted(posed, scene.frames, side="right") - 1
    return posed[np.maximum(place, 0)]


def _hierarchy(centres: np.ndarray, scale: float, up: str) -> list[str]:
    position = f"CHANNELS 6 Xposition Yposition Zposition {CHANNELS}"
    head = _head(centres, scale)
    if up != "z":
        return ["HIERARCHY", "ROOT head", "{", "  OFFSET 0 0 0", f"  {position}", *head, "}"]
    below = ["JOINT head", "{", "  OFFSET 0 0 0", f"  CHANNELS 3 {CHANNELS}", *head, "}"]
    root = ["HIERARCHY", "ROOT world", "{", "  OFFSET 0 0 0", f"  {position}"]
    return [*root, *(f"  {line}" for line in below), "}"]


def _head(centres: np.ndarray, scale: float) -> list[str]:
    """The children of `head`."""
    lines: list[str] = []
    ends = {"neck": (0.0, -0.1, 0.0), "left_eye": (0.0, 0.0, LOOK), "right_eye": (0.0, 0.0, LOOK)}
    for name, joint in (("neck", 0), ("left_eye", 2), ("right_eye", 3)):
        lines += [
            f"  JOINT {name}",
            "  {",
            f"    OFFSET {_three(centres[joint])}",
            f"    CHANNELS 3 {CHANNELS}",
            "    End Site",
            "    {",
            f"      OFFSET {_three(np.array(ends[name]) * scale)}",
            "    }",
            "  }",
        ]
    return lines


def _three(vector: np.ndarray) -> str:
    return " ".join(f"{value:.6f}" for value in vector)
