"""Lens distortion as pure functions on normalised image coordinates (x/z, y/z).

`opencv`: radial k1 k2 k3 (with the rational denominator k4 k5 k6) and tangential p1 p2, coefficient
order k1 k2 p1 p2 [k3 [k4 k5 k6]]. `opencv_fisheye`: the equidistant model of Kannala and Brandt
(PAMI 2006) as OpenCV has it, theta_d = theta (1 + k1 theta^2 + ... + k4 theta^8).
"""

from __future__ import annotations

import numpy as np

MODELS = ("opencv", "opencv_fisheye")
COEFFICIENT_COUNTS = {"opencv": (0, 4, 5, 8), "opencv_fisheye": (0, 4)}

_MAX_ITERATIONS = 30
_TOLERANCE = 1e-11


def distort(xy: np.ndarray, dist: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Apply the `opencv` model.

    Args:
        xy: (N, 2) float64, undistorted x/z, y/z.
        dist: (0, 4, 5 or 8,) float64 coefficients.
    Returns:
        (N, 2) distorted coordinates and (N, 2, 2) their Jacobian by `xy`.
    """
    k1, k2, p1, p2, k3, k4, k5, k6 = np.concatenate([dist, np.zeros(8 - len(dist))])
    x, y = xy[:, 0], xy[:, 1]
    r2 = x * x + y * y
    numerator = 1 + r2 * (k1 + r2 * (k2 + r2 * k3))
    denominator = 1 + r2 * (k4 + r2 * (k5 + r2 * k6))
    radial = numerator / denominator
    # d radial / d r2 by the quotient rule.
    slope = (k1 + r2 * (2 * k2 + 3 * k3 * r2)) / denominator
    slope -= radial * (k4 + r2 * (2 * k5 + 3 * k6 * r2)) / denominator
    distorted = np.stack(
        [
            x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x),
            y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y,
        ],
        axis=1,
    )
    jacobian = np.empty((len(xy), 2, 2))
    jacobian[:, 0, 0] = radial + 2 * x * x * slope + 2 * p1 * y + 6 * p2 * x
    jacobian[:, 0, 1] = 2 * x * y * slope + 2 * p1 * x + 2 * p2 * y
    jacobian[:, 1, 0] = jacobian[:, 0, 1]
    jacobian[:, 1, 1] = radial + 2 * y * y * slope + 6 * p1 * y + 2 * p2 * x
    return distorted, jacobian


def radius_limit(dist: np.ndarray) -> float:
    """Largest |xy| up to which the radial part of the `opencv` model grows, inf if it always does.

    Farther out the polynomial turns back: what lies far outside the picture would appear in it.
    """
    k1, k2, _, _, k3, k4, k5, k6 = np.concatenate([dist, np.zeros(8 - len(dist))])
    numerator, denominator = np.poly1d([k3, k2, k1, 1]), np.poly1d([k6, k5, k4, 1])
    # In s = r^2: d/dr of r n / d is (n d + 2 s (n' d - n d')) / d^2.
    turn = numerator.deriv() * denominator - numerator * denominator.deriv()
    slope = numerator * denominator + np.poly1d([2, 0]) * turn
    return _least_root(np.concatenate([slope.roots, denominator.roots])) ** 0.5


def angle_limit(dist: np.ndarray) -> float:
    """Largest angle to the axis, radians, up to which the `opencv_fisheye` model grows."""
    weighted = [9, 7, 5, 3, 1] * np.concatenate([dist[::-1], np.zeros(4 - len(dist)), [1]])
    return min(_least_root(np.poly1d(weighted).roots) ** 0.5, np.pi)


def _least_root(roots: np.ndarray) -> float:
    """The least real and positive one, inf if there is none."""
    real = (np.abs(roots.imag) < 1e-9 * np.abs(roots)) & (roots.real > 0)
    return float(roots.real[real].min(initial=np.inf))


def undistort(distorted: np.ndarray, dist: np.ndarray) -> np.ndarray:
    """Invert `distort` by Newton's method.

    Args:
        distorted: (N, 2) float64.
    Returns:
        (N, 2) float64; NaN where no undistorted point exists, which happens outside the picture
        when strong distortion folds the plane over.
    """
    if len(dist) == 0:
        return distorted.copy()
    xy = distorted.copy()
    with np.errstate(all="ignore"):
        for _ in range(_MAX_ITERATIONS):
            predicted, jacobian = distort(xy, dist)
            residual = predicted - distorted
            if np.nanmax(np.abs(residual), initial=0.0) < _TOLERANCE:
                break
            step = _solve_2x2(jacobian, residual)
            # A step longer than the point's own radius leaves the region where the model holds.
            limit = 0.5 * (1 + np.linalg.norm(xy, axis=1))
            length = np.linalg.norm(step, axis=1)
            xy = xy - step * np.minimum(1, limit / np.maximum(length, 1e-300))[:, None]
        predicted, jacobian = distort(xy, dist)
        error = np.abs(predicted - distorted).max(axis=1)
        folded = np.linalg.det(jacobian) <= 0
        # Farther out the model turns the picture inside out: that is no inverse either.
        folded |= (xy * distorted).sum(axis=1) < 0
    xy[~(error < 1e-8) | folded] = np.nan
    return xy


def _solve_2x2(matrix: np.ndarray, right: np.ndarray) -> np.ndarray:
    """(N, 2, 2), (N, 2) -> (N, 2); Cramer's rule, inf where singular."""
    a, b, c, d = matrix[:, 0, 0], matrix[:, 0, 1], matrix[:, 1, 0], matrix[:, 1, 1]
    determinant = a * d - b * c
    solution = [d * right[:, 0] - b * right[:, 1], a * right[:, 1] - c * right[:, 0]]
    return np.stack(solution, axis=1) / determinant[:, None]


def distort_fisheye(points: np.ndarray, dist: np.ndarray) -> np.ndarray:
    """Project directions with the fisheye model.

    Args:
        points: (N, 3) float64, camera frame; also to the side of and behind the camera.
        dist: (0 or 4,) float64.
    Returns:
        (N, 2) float64 distorted normalised coordinates.
    """
    radius = np.hypot(points[:, 0], points[:, 1])
    theta = np.arctan2(radius, points[:, 2])
    # On the axis the direction is undefined and the length zero: any finite factor will do.
    return points[:, :2] * (_fisheye_radius(theta, dist) / np.maximum(radius, 1e-300))[:, None]


def undistort_fisheye(distorted: np.ndarray, dist: np.ndarray) -> np.ndarray:
    """Invert the fisheye model.

    Args:
        distorted: (N, 2) float64.
    Returns:
        (N, 2) float64 x/z, y/z; NaN where no ray exists within 90 degrees of the axis.
    """
    radius = np.linalg.norm(distorted, axis=1)
    theta = np.minimum(radius, np.pi / 2)
    with np.errstate(all="ignore"):
        for _ in range(_MAX_ITERATIONS):
            residual = _fisheye_radius(theta, dist) - radius
            if np.nanmax(np.abs(residual), initial=0.0) < _TOLERANCE:
                break
            step = np.clip(residual / _fisheye_slope(theta, dist), -0.3, 0.3)
            theta = np.clip(theta - step, 0, np.pi)
        good = np.abs(_fisheye_radius(theta, dist) - radius) < 1e-8
        good &= (theta < np.pi / 2) & (_fisheye_slope(theta, dist) > 0)
        scale = np.where(radius > 1e-12, np.tan(theta) / np.maximum(radius, 1e-300), 1.0)
    return np.where(good[:, None], distorted * scale[:, None], np.nan)


def _fisheye_radius(theta: np.ndarray, dist: np.ndarray) -> np.ndarray:
    k1, k2, k3, k4 = dist if len(dist) else np.zeros(4)
    t2 = theta * theta
    return theta * (1 + t2 * (k1 + t2 * (k2 + t2 * (k3 + t2 * k4))))


def _fisheye_slope(theta: np.ndarray, dist: np.ndarray) -> np.ndarray:
    k1, k2, k3, k4 = dist if len(dist) else np.zeros(4)
    t2 = theta * theta
    return 1 + t2 * (3 * k1 + t2 * (5 * k2 + t2 * (7 * k3 + t2 * 9 * k4)))
