"""From dense landmarks to the 68 points that annotators click."""

from __future__ import annotations

import numpy as np

NEAREST = 12


def learn_map(
    dense: np.ndarray, truth: np.ndarray, scale: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Indices (68, 12) and convex weights (68, 12) of dense points for each annotated one.

    dense: (P, N, 2) px; truth: (P, 68, 2) px; scale: (P,) px, the unit of each photo's errors.
    Least squares over the photos.
    """
    from scipy.optimize import nnls

    apart = np.linalg.norm(dense[:, None] - truth[:, :, None], axis=-1) / scale[:, None, None]
    nearest = np.argsort(apart.mean(0), axis=1)[:, :NEAREST]
    weights = np.zeros((68, NEAREST))
    for k in range(68):
        columns = dense[:, nearest[k]] - truth[:, k, None]
        system = (columns / scale[:, None, None]).transpose(0, 2, 1).reshape(-1, NEAREST)
        # A heavy last row makes the weights sum to one.
        system = np.concatenate([system, np.full((1, NEAREST), 1e3)])
        target = np.append(np.zeros(len(system) - 1), 1e3)
        weights[k] = nnls(system, target)[0]
    return nearest, weights / weights.sum(1, keepdims=True)


def apply_map(dense: np.ndarray, mapping: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Dense points (..., N, 2) -> the 68 annotated ones."""
    nearest, weights = mapping
    return (dense[..., nearest, :] * weights[..., None]).sum(-2)
