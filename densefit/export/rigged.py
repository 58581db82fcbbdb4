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
WORST_FRAMES = 20
"""Frames that join them where these are not reproduced."""
MARGIN = 0.8
"""Share of the tolerance that the frames are held to that correctives are found from."""
STILL = 0.02
"""Vertices off by less than this share of the tolerance need no correctives."""


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
    return _with_correctives(scene, rig, tolerance)


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


def _posed(rig: RiggedHead, shapes: np.ndarray, joints: np.ndarray) -> np.ndarray:
    """Linear-blend skinning of shapes (M, V, 3), whose joints turn by (M, 4, 3) rad."""
    rotations = rotation_matrix(joints)
    out = shapes.copy()
    for j in np.flatnonzero(joints.any(axis=(0, 2))):
        touched = np.flatnonzero(rig.skinning[:, j])
        arm = shapes[:, touched] - rig.joint_centres[j]
        turned = arm @ rotations[:, j].swapaxes(1, 2)
        out[:, touched] += rig.skinning[touched, j, None] * (turned - arm)
    return out


def _left_over(
    scene: ExportScene, rig: RiggedHead, rows: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield rows (n,) of the posed frames and (n, V, 3): the fit's vertices less the rig's."""
    fit, head = scene.fit, scene.head
    for first in range(0, len(rows), CHUNK):
        some = rows[first : first + CHUNK]
        frames = scene.posed_frames[some]
        model = head.vertices(fit.identity, fit.expression[frames], fit.joints[frames])
        own = _posed(rig, rig.shapes(rig.weights[some]), fit.joints[frames])
        yield some, scene.surface.refine(model.astype(np.float64)) - own


def _unposed(
    rig: RiggedHead, vertices: np.ndarray, moved: np.ndarray, joints: np.ndarray
) -> np.ndarray:
    """(M, n * 3): displacements of vertices (n,), moved (M, n, 3), before the joints turn."""
    rotations = rotation_matrix(joints).reshape(len(joints), -1, 9)
    skin = (rig.skinning[vertices] @ rotations).reshape(*moved.shape, 3)
    return np.linalg.solve(skin, moved[..., None]).reshape(len(moved), -1)


def _largest(displacements: np.ndarray) -> np.ndarray:
    """(M,) largest length of displacements (M, n, 3); zero of none."""
    squares = np.einsum("mni,mni->mn", displacements, displacements)
    return np.sqrt(squares.max(axis=1, initial=0))


def _with_correctives(scene: ExportScene, rig: RiggedHead, tolerance: float) -> RiggedHead:
    """Add principal components of what is left over, until no frame is off by more.

    They are found from some frames. All frames then get their weights, and those that come out
    worst are looked at, too, until all are well.
    """
    joints = scene.fit.joints[scene.posed_frames]
    everything = np.arange(len(joints))
    sample = np.unique(np.linspace(0, len(joints) - 1, SAMPLE_FRAMES).astype(int))
    while True:
        found = [(rows, d) for rows, d in _left_over(scene, rig, sample)]
        largest = np.max([np.abs(d).max(axis=(0, 2)) for _, d in found], axis=0)
        vertices = np.flatnonzero(largest > STILL * tolerance)
        lacking = [_unposed(rig, vertices, d[:, vertices], joints[rows]) for rows, d in found]
        basis = _components(np.concatenate(lacking), MARGIN * tolerance)
        weights, off = [], []
        for rows, difference in _left_over(scene, rig, everything):
            unposed = _unposed(rig, vertices, difference[:, vertices], joints[rows])
            weights.append(unposed @ basis.T)
            rest = (unposed - weights[-1] @ basis).reshape(len(rows), -1, 3)
            difference[:, vertices] = 0
            off.append(np.maximum(_largest(rest), _largest(difference)))
        worst = np.concatenate(off)
        if worst.max() <= tolerance or len(sample) == len(everything):
            break
        sample = np.union1d(sample, np.argsort(-worst)[:WORST_FRAMES])
    if not len(basis):
        return rig
    whole = np.zeros((len(basis), *rig.neutral.shape))
    whole[:, vertices] = basis.reshape(len(basis), -1, 3)
    return _with_targets(rig, whole.reshape(len(basis), -1), np.concatenate(weights))


def _components(displacements: np.ndarray, tolerance: float) -> np.ndarray:
    """(k, n * 3): the first k principal components of displacements (M, n * 3), the fewest that
    leave no vertex of any row off by more; none where that holds already."""
    rest = displacements.copy()
    if _largest(rest.reshape(len(rest), -1, 3)).max() <= tolerance:
        return rest[:0]
    _, strength, components = np.linalg.svd(rest, full_matrices=False)
    count = int((strength > 1e-9).sum())
    for k in range(count):
        rest -= np.outer(displacements @ components[k], components[k])
        if _largest(rest.reshape(len(rest), -1, 3)).max() <= tolerance:
            return components[: k + 1]
    return components[:count]


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
