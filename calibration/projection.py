"""Projection with its derivatives, for the solvers: by the point, by focal length, centre, lens.

`Camera.project` is the same mapping for use; tests hold the two together. Intrinsics are one
vector: fx, fy, cx, cy, then the lens coefficients.
"""

from __future__ import annotations

import numpy as np

from calibration import lens

# A point at or behind the camera is projected as if it were this near (m): far outside the
# picture, so that the solver is driven away, yet finite.
_NEAREST = 1e-6


def project_with_derivatives(
    model: str, intrinsics: np.ndarray, points_camera: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Project points of the camera's frame.

    Args:
        model: `opencv` or `opencv_fisheye`.
        intrinsics: (4 + D,) float64: fx, fy, cx, cy (px) and D lens coefficients.
        points_camera: (N, 3) float64, metres.
    Returns:
        (N, 2) px; (N, 2, 3) px per metre, by the point; (N, 2, 4 + D) by the intrinsics.
    """
    focal, centre, dist = intrinsics[:2], intrinsics[2:4], intrinsics[4:]
    if model == "opencv_fisheye":
        plane, by_point, by_dist = _fisheye(points_camera, dist)
    else:
        plane, by_point, by_dist = _opencv(points_camera, dist)
    by_intrinsics = np.zeros((len(plane), 2, len(intrinsics)))
    by_intrinsics[:, 0, 0] = plane[:, 0]
    by_intrinsics[:, 1, 1] = plane[:, 1]
    by_intrinsics[:, 0, 2] = by_intrinsics[:, 1, 3] = 1
    by_intrinsics[:, :, 4:] = by_dist * focal[:, None]
    return plane * focal + centre, by_point * focal[:, None], by_intrinsics


def _opencv(points: np.ndarray, dist: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Distorted normalised coordinates (N, 2), their derivatives (N, 2, 3) and (N, 2, D)."""
    z = np.maximum(points[:, 2], _NEAREST)
    xy = points[:, :2] / z[:, None]
    distorted, by_xy = lens.distort(xy, dist)
    xy_by_point = np.zeros((len(xy), 2, 3))
    xy_by_point[:, 0, 0] = xy_by_point[:, 1, 1] = 1 / z
    xy_by_point[:, :, 2] = -xy / z[:, None]
    return distorted, by_xy @ xy_by_point, _opencv_by_dist(xy, dist)


def _opencv_by_dist(xy: np.ndarray, dist: np.ndarray) -> np.ndarray:
    """(N, 2, D): d distorted / d (k1 k2 p1 p2 [k3 [k4 k5 k6]])."""
    k1, k2, _, _, k3, k4, k5, k6 = np.concatenate([dist, np.zeros(8 - len(dist))])
    x, y = xy[:, 0], xy[:, 1]
    r2 = x * x + y * y
    numerator = 1 + r2 * (k1 + r2 * (k2 + r2 * k3))
    denominator = 1 + r2 * (k4 + r2 * (k5 + r2 * k6))
    power = np.stack([r2, r2**2, r2**3], axis=1)
    upper = power / denominator[:, None]
    lower = -power * (numerator / denominator**2)[:, None]
    by = np.empty((len(xy), 2, 8))
    by[:, :, [0, 1, 4]] = xy[:, :, None] * upper[:, None]
    by[:, :, 5:8] = xy[:, :, None] * lower[:, None]
    by[:, 0, 2] = by[:, 1, 3] = 2 * x * y
    by[:, 1, 2] = r2 + 2 * y * y
    by[:, 0, 3] = r2 + 2 * x * x
    return by[:, :, : len(dist)]


def _fisheye(points: np.ndarray, dist: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The equidistant model: plane = (x, y) theta_d(theta) / r with theta = atan2(r, z)."""
    k = dist if len(dist) else np.zeros(4)
    xy, z = points[:, :2], points[:, 2]
    # On the axis the limit is 1/z; a radius of a nanometre is on it.
    r = np.maximum(np.hypot(xy[:, 0], xy[:, 1]), 1e-9)
    theta = np.arctan2(r, z)
    t2 = theta * theta
    radius = theta * (1 + t2 * (k[0] + t2 * (k[1] + t2 * (k[2] + t2 * k[3]))))
    slope = 1 + t2 * (3 * k[0] + t2 * (5 * k[1] + t2 * (7 * k[2] + t2 * 9 * k[3])))
    scale = radius / r
    d2 = r * r + z * z
    # d scale / d r and d scale / d z, with d theta / d r = z / d2 and d theta / d z = -r / d2.
    scale_by_r = (slope * z / d2 - scale) / r
    by_point = np.zeros((len(points), 2, 3))
    by_point[:, :, :2] = np.einsum("ni,nj->nij", xy, xy) * (scale_by_r / r)[:, None, None]
    by_point[:, 0, 0] += scale
    by_point[:, 1, 1] += scale
    by_point[:, :, 2] = xy * (-slope / d2)[:, None]
    powers = np.stack([theta * t2, theta * t2**2, theta * t2**3, theta * t2**4], axis=1)
    by_dist = (xy / r[:, None])[:, :, None] * powers[:, None]
    return xy * scale[:, None], by_point, by_dist[:, :, : len(dist)]
