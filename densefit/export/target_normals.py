"""How targets turn the normals of the mesh, for formats that add that up as they add displacements.

Normals are no sum. Those of one expression are right where it stands alone, which it often does.
Correctives never do: each is larger alone than what their sum leaves of it, so theirs are chosen to
bring the normals of the frames nearest to the truth.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from densefit.export.mesh_arrays import vertex_normals
from densefit.export.rigged import SAMPLE_FRAMES, RiggedHead
from densefit.head.model import EXPRESSION_NAMES


def target_normals(
    rigged: RiggedHead, normals: np.ndarray, triangles: np.ndarray
) -> Iterator[np.ndarray]:
    """Yield (V, 3) float64 for each target: what its full weight adds to the neutral's normals.

    Args:
        normals: (V, 3), of the neutral.  triangles: (F, 3).
    """
    count = len(EXPRESSION_NAMES)
    near = _around(rigged.targets[count:], triangles)
    added = []
    for delta in rigged.targets[:count]:
        turned = vertex_normals(rigged.neutral + delta, triangles) - normals
        added.append(turned[near])
        yield turned
    if len(rigged.targets) > count:
        for own in _nearest_to_frames(rigged, normals, triangles, near, np.stack(added)):
            turned = np.zeros_like(normals)
            turned[near] = own
            yield turned


def _around(targets: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Indices of the vertices whose normals targets (n, V, 3) turn."""
    moved = (targets != 0).any(axis=(0, 2))
    return np.unique(triangles[moved[triangles].any(axis=1)])


def _nearest_to_frames(
    rigged: RiggedHead,
    normals: np.ndarray,
    triangles: np.ndarray,
    near: np.ndarray,
    added: np.ndarray,
) -> np.ndarray:
    """(n, P, 3): of the correctives, at the P vertices `near`, by least squares over frames.

    added: (E, P, 3), what the expressions add there.
    """
    beside = np.zeros(len(normals), bool)
    beside[near] = True
    faces = triangles[beside[triangles].any(axis=1)]
    spread = np.linspace(0, len(rigged.weights) - 1, min(SAMPLE_FRAMES, len(rigged.weights)))
    weights = rigged.weights[np.unique(spread.astype(int))]
    shares = weights[:, len(added) :]
    wanted = np.zeros((shares.shape[1], len(near), 3))
    for row, own in zip(weights, shares, strict=True):
        shape = rigged.shapes(row[None])[0]
        lacking = vertex_normals(shape, faces)[near] - normals[near]
        lacking -= np.tensordot(row[: len(added)], added, 1)
        wanted += own[:, None, None] * lacking
    inverse = np.linalg.pinv(shares.T @ shares, rcond=1e-6, hermitian=True)
    return np.tensordot(inverse, wanted, 1)
