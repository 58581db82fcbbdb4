"""Points from several calibrated cameras."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from calibration.camera import Camera

_REWEIGHTINGS = 15


def triangulate(
    cameras: Sequence[Camera], xy: np.ndarray, weight: np.ndarray | None = None
) -> np.ndarray:
    """The points that explain what the cameras see, robustly.

    Linear in the points (each ray gives two equations, Hartley and Zisserman, section 12.2), with
    weights that turn the algebraic into pixel errors and let single wrong cameras fade (L1).

    Args:
        cameras: C cameras with K and T_camera_world.
        xy: (C, N, 2) float, px; NaN where unseen.
        weight: (C, N) float, 1 / px; default 1.
    Returns:
        (N, 3) float64, metres, world; NaN where fewer than two cameras see the point.
    """
    count = xy.shape[1]
    rows, focal, T = [], [], []
    for camera, seen in zip(cameras, xy, strict=True):
        assert camera.T_camera_world is not None and camera.K is not None
        rays, P = camera.normalize(seen), camera.T_camera_world[:3]
        rows.append(rays[:, :, None] * P[2] - P[:2])
        focal.append(float(camera.K[0, 0]))
        T.append(P)
    A = np.stack(rows)
    usable = np.isfinite(A).all(axis=(2, 3))
    base = np.where(usable, np.array(focal)[:, None], 0.0)
    if weight is not None:
        base = base * np.where(np.isfinite(weight), weight, 0.0)
    A = np.nan_to_num(A)
    points = np.full((count, 3), np.nan)
    good = usable.sum(axis=0) >= 2
    scale = base.copy()
    for _ in range(_REWEIGHTINGS):
        M = A[:, good] * scale[:, good, None, None]
        left, right = M[..., :3], -M[..., 3]
        normal = np.einsum("cnki,cnkj->nij", left, left) + 1e-12 * np.eye(3)
        points[good] = np.linalg.solve(normal, np.einsum("cnki,cnk->ni", left, right)[..., None])[
            ..., 0
        ]
        depth = np.stack([points @ P[2, :3] + P[2, 3] for P in T])
        pixels = base / np.maximum(np.abs(depth), 1e-9)
        error = np.einsum("cnki,ni->cnk", A[..., :3], np.nan_to_num(points)) + A[..., 3]
        distance = np.linalg.norm(error, axis=2) * pixels
        scale = pixels / np.sqrt(np.maximum(distance, 0.1))
    return points


def reprojection_errors(
    cameras: Sequence[Camera], points_world: np.ndarray, xy: np.ndarray
) -> np.ndarray:
    """(C, N) px between what the cameras see, (C, N, 2), and points, (N, 3) metres; NaN unseen."""
    predicted = np.stack([camera.project(points_world) for camera in cameras])
    return np.linalg.norm(predicted - xy, axis=2)
