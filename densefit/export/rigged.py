"""The person as animation programs know heads: a neutral mesh, blend shapes and a skeleton.

The head model is that already, as long as its shapes add up. Where it does not (shapes that correct
one another, a skin that is refined after posing), what is left over in the frames at hand becomes
further targets `corrective_0`, `corrective_1`, ... with a weight for each frame: the fewest whose
sum reproduces every vertex within TOLERANCE. Many programs cut weights off below 0 and above 1, so
those of the correctives fill just that range; where the zero of one is inside it, what that adds to
every frame is taken off again by one target more, `corrective_constant`, whose weight is always 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from densefit.export.scene import CHUNK, ExportScene
from densefit.head.model import GAZE_EXPRESSIONS
from densefit.head.rotation import rotation_matrix

TOLERANCE = 2e-5
"""m: largest distance of a vertex from the fit's, in files; the formats round about as much
again."""
CONSTANT = "corrective_constant"
"""Target that every frame has in full."""
NEGLIGIBLE = 1e-7
"""m: correctives leave vertices alone that they would move by less, which keeps files small."""
SAMPLE_FRAMES = 200
"""Frames that correctives are found from, at first."""


@dataclass(frozen=True)
class RiggedHead:
    """Rest pose, targets, skin and the weights of M frames; metres, head frame."""

    neutral: np.ndarray
    """(V, 3) float64."""
    targets: np.ndarray
    """(N, V, 3) float64: displacements; the model's expressions first, then the correctives."""
    names: tuple[str, ...]
    """(N,) of the targets."""
    weights: np.ndarray
    """(M, N) float64; those of the correctives from 0 to 1, as of expressions that are."""
    joint_centres: np.ndarray
    """(4, 3) float64."""
    skinning: np.ndarray
    """(V, 4) float64, rows sum to one."""

    def shapes(self, weights: np.ndarray) -> np.ndarray:
        """(M, V, 3) before the joints turn, of weights (M, N)."""
        flat = self.targets.reshape(len(self.targets), -1)
        return self.neutral + (weights @ flat).reshape(len(weights), -1, 3)


def rigged_head(scene: ExportScene, tolerance: float = TOLERANCE) -> RiggedHead:
    """Neutral mesh, targets and weights of the frames `scene.posed_frames`.

    tolerance: m, largest distance of a vertex from the fit's.
    """
    head, surface = scene.head, scene.surface
    skinning = surface.refine(head.skinning.astype(np.float64))
    rig = RiggedHead(
        neutral=surface.refine(scene.neutral()),
        targets=surface.refine(_expression_targets(scene)),
        names=tuple(head.expression_names),
        weights=scene.expression(scene.posed_frames),
        joint_centres=scene.joint_centres(),
        skinning=skinning / skinning.sum(axis=1, keepdims=True),
    )
    worst = np.concatenate([_largest(posed - own) for posed, own, _, _ in _compare(scene, rig)])
    if worst.max() <= tolerance:
        return rig
    return _with_correctives(scene, rig, worst, tolerance)


def _expression_targets(scene: ExportScene) -> np.ndarray:
    """(52, V, 3): what each expression alone does to this person."""
    head = scene.head
    count = len(head.expression_names)
    rest = head.vertices(scene.fit.identity, np.zeros((1, count)), np.zeros((1, 4, 3)))[0]
    alone = head.vertices(scene.fit.identity, np.eye(count), np.zeros((count, 4, 3)))
    targets = alone.astype(np.float64) - rest
    # The eyeLook shapes follow the eye joints, which are at rest here.
    gaze = list(GAZE_EXPRESSIONS)
    targets[gaze] = head.expression_basis[gaze]
    return targets


def skin_matrices(
    skinning: np.ndarray, centres: np.ndarray, joints: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Linear-blend skinning as x -> A x + b.

    Args:
        skinning: (V, 4).  centres: (4, 3) metres.  joints: (M, 4, 3) rad.
    Returns:
        A (M, V, 3, 3) and b (M, V, 3).
    """
    rotations = rotation_matrix(joints)
    offsets = centres - (rotations @ centres[:, :, None])[..., 0]
    matrices = skinning @ rotations.reshape(len(joints), -1, 9)
    return matrices.reshape(*matrices.shape[:2], 3, 3), skinning @ offsets


def _compare(
    scene: ExportScene, rig: RiggedHead, wanted: np.ndarray | None = None
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, slice]]:
    """Yield the fit's vertices, the rig's (both (n, V, 3), head frame), A, and which frames."""
    fit, head = scene.fit, scene.head
    numbers = np.arange(len(scene.posed_frames)) if wanted is None else wanted
    for first in range(0, len(numbers), CHUNK):
        rows = numbers[first : first + CHUNK]
        frames = scene.posed_frames[rows]
        model = head.vertices(fit.identity, fit.expression[frames], fit.joints[frames])
        posed = scene.surface.refine(model.astype(np.float64))
        a, b = skin_matrices(rig.skinning, rig.joint_centres, fit.joints[frames])
        own = _applied(a, rig.shapes(rig.weights[rows])) + b
        yield posed, own, a, slice(first, first + len(rows))


def _applied(matrices: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """(M, V, 3) matrices (M, V, 3, 3) times vectors (M, V, 3); by columns, which is far faster."""
    x, y, z = (vectors[..., i, None] for i in range(3))
    return matrices[..., 0] * x + matrices[..., 1] * y + matrices[..., 2] * z


def _inverse(matrices: np.ndarray) -> np.ndarray:
    """Of (M, V, 3, 3), by cofactors."""
    a, b, c = (matrices[..., i, :] for i in range(3))
    columns = np.stack([np.cross(b, c), np.cross(c, a), np.cross(a, b)], axis=-1)
    return columns / (a * columns[..., 0]).sum(-1)[..., None, None]


def _largest(difference: np.ndarray) -> np.ndarray:
    return np.linalg.norm(difference, axis=-1).max(axis=-1)


def _with_correctives(
    scene: ExportScene, rig: RiggedHead, worst: np.ndarray, tolerance: float
) -> RiggedHead:
    """Add principal components of what is left over, until no frame is off by more."""
    spread = np.linspace(0, len(worst) - 1, min(SAMPLE_FRAMES, len(worst)))
    sample = np.unique(np.concatenate([spread.astype(int), np.argsort(-worst)[:20]]))
    left_over = _unposed_residuals(scene, rig, sample)
    _, strength, components = np.linalg.svd(left_over, full_matrices=False)
    count = int((strength > 1e-9).sum())
    chosen = max(1, count // 8)
    while True:
        basis = components[:chosen]
        weights = np.concatenate(
            [_unposed_residuals(scene, rig, rows) @ basis.T for rows in _chunks(len(worst))]
        )
        fuller = _with_targets(rig, basis, weights)
        off = max(_largest(p - own).max() for p, own, _, _ in _compare(scene, fuller))
        if off <= tolerance or chosen >= count:
            return fuller
        chosen = min(count, max(chosen + 1, int(chosen * 1.5)))


def _with_targets(rig: RiggedHead, basis: np.ndarray, weights: np.ndarray) -> RiggedHead:
    """The rig with targets of `basis` (n, V * 3), so scaled and moved that weights (M, n) become
    shares from 0 to 1."""
    # The sign of a component is free: the larger weights are to be the positive ones.
    sign = np.where(weights.min(axis=0) + weights.max(axis=0) < 0, -1.0, 1.0)
    basis, weights = basis * sign[:, None], weights * sign
    lowest, highest = np.minimum(weights.min(axis=0), 0), np.maximum(weights.max(axis=0), 0)
    extent = np.maximum(highest - lowest, 1e-12)
    targets, shares = basis * extent[:, None], (weights - lowest) / extent
    names = [f"corrective_{k}" for k in range(len(basis))]
    if lowest.any():
        targets = np.concatenate([targets, (lowest @ basis)[None]])
        shares = np.concatenate([shares, np.ones((len(shares), 1))], axis=1)
        names.append(CONSTANT)
    targets = targets.reshape(len(targets), -1, 3)
    targets[np.abs(targets).max(axis=2) < NEGLIGIBLE] = 0
    return replace(
        rig,
        targets=np.concatenate([rig.targets, targets]),
        names=(*rig.names, *names),
        weights=np.concatenate([rig.weights, shares], axis=1),
    )


def _chunks(count: int) -> Iterator[np.ndarray]:
    for first in range(0, count, CHUNK):
        yield np.arange(first, min(first + CHUNK, count))


def _unposed_residuals(scene: ExportScene, rig: RiggedHead, rows: np.ndarray) -> np.ndarray:
    """(n, V * 3): what the rig lacks in these frames, before the joints turn."""
    parts = [
        _applied(_inverse(a), posed - own).reshape(len(posed), -1)
        for posed, own, a, _ in _compare(scene, rig, rows)
    ]
    return np.concatenate(parts)
