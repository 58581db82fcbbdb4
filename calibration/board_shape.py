"""The board as it is: printed boards stretch, and glued ones bulge by tenths of a millimetre.

With many views each point's own place can be told apart from cameras and poses (Strobl and
Hirzinger, More Accurate Pinhole Camera Calibration with Imperfect Planar Target, ICCV workshops
2011). Points and everything else are improved by turns. What a similarity could do is taken out
again, so that the board's stated size stays the scale of the rig.
"""

from __future__ import annotations

import numpy as np

from calibration.bundle import BundleState, Corners, residuals_of, robust_sigma
from calibration.projection import project_with_derivatives

# How far points may plausibly be from their places, as shares of the board's size: in the plane
# the printer's error, across it the bulge.
_IN_PLANE = 0.001
_ACROSS = 0.004


def refined_points(
    corners: Corners, state: BundleState, nominal: np.ndarray, now: np.ndarray
) -> np.ndarray:
    """One Gauss-Newton step of the board's points with everything else held.

    Args:
        corners: observations; their `points` are rows of `now`.
        nominal: (P, 3) float64, metres: the points as stated.
        now: (P, 3) their present estimate.
    Returns:
        (P, 3) float64, metres.
    """
    residuals, ids = residuals_of(corners, state), corners.ids
    sigma = robust_sigma(corners.whitened(residuals))
    distance = np.linalg.norm(corners.whitened(residuals), axis=1)
    weight = np.minimum(1.0, 3 * sigma / np.maximum(distance, 1e-12)) / sigma**2
    if corners.weight is not None:
        weight = weight * corners.weight
    size = float(np.linalg.norm(np.ptp(nominal, axis=0)))
    prior = np.array([_IN_PLANE, _IN_PLANE, _ACROSS]) * size
    H = np.zeros((len(nominal), 3, 3)) + np.diag(1 / prior**2)
    g = (now - nominal) / prior**2
    for c, model in enumerate(state.models):
        rows = np.flatnonzero(corners.camera == c)
        if not len(rows):
            continue
        T = state.T_camera_world[c] @ state.T_world_board[corners.moment[rows]]
        points = np.einsum("nij,nj->ni", T[:, :3, :3], corners.points[rows]) + T[:, :3, 3]
        _, by_point, _ = project_with_derivatives(model, state.intrinsics[c], points)
        J = by_point @ T[:, :3, :3]
        w = weight[rows]
        np.add.at(H, ids[rows], np.einsum("nki,n,nkj->nij", J, w, J))
        np.add.at(g, ids[rows], np.einsum("nki,n,nk->ni", J, w, residuals[rows]))
    moved = now - np.linalg.solve(H, g[..., None])[..., 0]
    return _without_similarity(moved, nominal)


def _without_similarity(points: np.ndarray, nominal: np.ndarray) -> np.ndarray:
    """`points` after the similarity that brings them nearest to `nominal` (Umeyama 1991)."""
    a, b = points - points.mean(axis=0), nominal - nominal.mean(axis=0)
    u, _, vt = np.linalg.svd(a.T @ b)
    sign = np.diag([1.0, 1.0, np.sign(np.linalg.det(u @ vt))])
    turned = a @ (u @ sign @ vt)
    scale = (turned * b).sum() / (turned**2).sum()
    return scale * turned + nominal.mean(axis=0)
