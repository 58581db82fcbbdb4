"""From the rig's world axes to the y-up or z-up axes of other programs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from calibration import Rig

Z_FROM_Y = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])
"""Rotation from axes with y up to axes with z up; x stays."""


def world_to_up(up: str, rig: Rig | None, stated_up: list[float] | None = None) -> np.ndarray:
    """Rotation (3, 3) float64 from world axes to axes in which `up` is up.

    `y`: glTF axes, up = +y and the cameras look along -z, so that the head faces the viewer.
    `z`: Blender axes, up = +z and the cameras look along +y. `world`: no rotation.
    Up is what rig.yaml says, else the mean camera's -y (OpenCV cameras have y down).
    """
    if up == "world":
        return np.eye(3)
    axis_up, forward = viewing_axes(rig, stated_up)
    back = -forward
    y_up = np.stack([np.cross(axis_up, back), axis_up, back])
    if up == "y":
        return y_up
    return Z_FROM_Y @ y_up


def viewing_axes(
    rig: Rig | None, stated_up: list[float] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """World up, and the cameras' mean direction made horizontal: two unit vectors (3,)."""
    rotations = []
    if rig is not None:
        cameras = rig.cameras.values()
        rotations = [c.T_camera_world[:3, :3] for c in cameras if c.T_camera_world is not None]
    downs = [rotation[1] for rotation in rotations] or [np.array([0.0, 1.0, 0.0])]
    forwards = [rotation[2] for rotation in rotations] or [np.array([0.0, 0.0, 1.0])]
    if rig is not None and rig.up is not None:
        stated_up = list(rig.up)
    up = (
        _unit(np.asarray(stated_up, float))
        if stated_up is not None
        else _unit(-np.mean(downs, axis=0))
    )
    if up is None:  # cameras on opposite sides, turned against each other
        up = np.array([0.0, -1.0, 0.0])
    for candidate in (np.mean(forwards, axis=0), forwards[0], *np.eye(3)):
        horizontal = candidate - up * (up @ candidate)
        if np.linalg.norm(horizontal) > 0.1:
            return up, horizontal / np.linalg.norm(horizontal)
    raise AssertionError("one of three axes is never parallel to up")


def _unit(vector: np.ndarray) -> np.ndarray | None:
    length = np.linalg.norm(vector)
    return vector / length if length > 1e-6 else None
