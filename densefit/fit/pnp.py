"""Poses of a head from the landmarks of one picture alone."""

from __future__ import annotations

import cv2
import numpy as np

PNP_POINTS = 160
START_TURNS = ((0.0, 0.0), (0.9, 0.0), (-0.9, 0.0), (0.0, 3.1), (0.0, 1.57), (0.0, -1.57),
               (1.4, 0.0), (-1.4, 0.0), (0.9, 3.1), (-0.9, 3.1))  # fmt: skip
"""Yaw of the head and roll of the picture (rad) of the starts after PnP, likely ones first."""
NEAREST_HEAD = 0.03
"""m: PnP solutions nearer than this are mirrored or void."""


def pnp_start(
    points: np.ndarray, xy: np.ndarray, precision: np.ndarray
) -> tuple[np.ndarray, np.ndarray] | None:
    """Pose in the camera (3, 3), (3,) by SQPNP on the most certain landmarks, or None.

    Args:
        points: (L, 3) metres, head frame. xy: (L, 2) pinhole at unit focal length. precision: (L,).
    """
    order = _most_certain(precision)
    if len(order) < 6:
        return None
    flat = np.ascontiguousarray(xy[order])
    try:
        found, vector, offset = cv2.solvePnP(
            points[order], flat, np.eye(3), None, flags=cv2.SOLVEPNP_SQPNP
        )
    except cv2.error:
        return None  # it refuses heads that are small against the focal length
    if not found or not np.isfinite(offset).all() or offset[2, 0] <= NEAREST_HEAD:
        return None
    return cv2.Rodrigues(vector)[0], offset[:, 0]


def turned_starts(
    points: np.ndarray, xy: np.ndarray, precision: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Poses in the camera (N, 3, 3), (N, 3) of faces turned to the camera and to its sides, in
    upright and in turned pictures, at the distance where the head has its size in the picture.
    Arguments as of `pnp_start`."""
    order = _most_certain(precision)
    centre = np.average(xy[order], axis=0, weights=precision[order])
    spread = max(float(np.std(xy[order], axis=0).max()), 1e-6)
    depth = float(np.std(points[order], axis=0)[:2].max()) / spread
    rotations, shifts = [], []
    for yaw, roll in START_TURNS:
        turn = cv2.Rodrigues(np.array([0.0, 0.0, roll]))[0] @ np.diag([1.0, -1.0, -1.0])
        turn = turn @ cv2.Rodrigues(np.array([0.0, yaw, 0.0]))[0]
        rotations.append(turn)
        shifts.append(np.array([*(centre * depth), depth]) - turn @ points[order].mean(axis=0))
    return np.stack(rotations), np.stack(shifts)


def _most_certain(precision: np.ndarray) -> np.ndarray:
    order = np.argsort(-precision)[:PNP_POINTS]
    return order[precision[order] > 0]
