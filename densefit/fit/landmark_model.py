"""The head reduced to its landmarks, as torch planes: what the solver evaluates and differentiates.

Planes are (..., 3, L): landmark innermost. A landmark is skinned like a vertex, with the weights
interpolated over its triangle; on the shipped head that differs from skinning the triangle's
corners by less than 0.1 mm at the largest neck rotations.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from densefit.fit.intersection import ContactModel, contact_model
from densefit.head.model import GAZE_EXPRESSIONS, HeadModel

Tensor = torch.Tensor

# Unordered index pairs of a symmetric 3x3 matrix stored as six planes.
PAIRS = ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))
SIX = ((0, 1, 2), (1, 3, 4), (2, 4, 5))
NECK, LEFT_EYE, RIGHT_EYE = 0, 2, 3


@dataclass(frozen=True)
class Eye:
    """Landmarks that one eye joint turns."""

    joint: int
    index: Tensor
    """(Le,) landmarks."""
    weight: Tensor
    """(Le,) skinning weight."""


@dataclass(frozen=True)
class LandmarkModel:
    """Landmark rows of a HeadModel. L landmarks, K identity modes, 52 expressions."""

    template: Tensor
    """(3, L) metres."""
    identity: Tensor
    """(K, 3 L)."""
    expression: Tensor
    """(52, 3 L)."""
    moving: Tensor
    """(Lm,) landmarks that any expression moves; scalp, ears and neck are not among them."""
    moving_expression: Tensor
    """(52, 3, Lm)."""
    moving_identity: Tensor
    """(K, 3 Lm)."""
    expression_gram: Tensor
    """(6 Lm, 52 * 53 / 2): products of pairs of expression rows, so that E^T G E is one product."""
    gram_index: Tensor
    """(52 * 52,) columns of expression_gram in full-matrix order."""
    neck_weight: Tensor
    """(L,)."""
    still_weight: Tensor
    """(L,): of the head joint, which never turns."""
    eyes: tuple[Eye, Eye]
    joint_weights: Tensor
    """(4, L)."""
    joint_centres: Tensor
    """(4, 3) float64."""
    joint_basis: Tensor
    """(K, 12) float64."""
    vertex_gram: Tensor
    """(52, 52) float64: mean over the vertices of the products of the expression deltas, m^2."""
    free: Tensor
    """(44,) expressions that are unknowns."""
    gaze: Tensor
    """(8,) expressions that follow the eye joints."""
    gaze_map: Tensor
    """(8, 4) float64: gaze expression before clipping = gaze_map @ (left x, left y, right x, right
    y)."""

    contacts: ContactModel
    """What must not enter what."""

    @property
    def modes(self) -> int:
        """K."""
        return int(self.identity.shape[0])

    @property
    def dtype(self) -> torch.dtype:
        """Of the planes."""
        return self.template.dtype


def landmark_model(head: HeadModel, dtype: torch.dtype) -> LandmarkModel:
    """Reduce a head model to its landmarks."""

    def planes(vertices: np.ndarray) -> Tensor:
        rows = head.landmarks(vertices.astype(np.float64)).swapaxes(-1, -2)
        return torch.tensor(np.ascontiguousarray(rows), dtype=dtype)

    def numbers(array: np.ndarray, kind: torch.dtype = torch.float64) -> Tensor:
        return torch.tensor(np.asarray(array), dtype=kind)

    modes = head.identity_count
    weights = numbers(
        np.einsum("kcj,kc->jk", head.skinning[head.landmark_vertices], head.landmark_weights), dtype
    )
    eyes = []
    for joint in (LEFT_EYE, RIGHT_EYE):
        index = torch.nonzero(weights[joint] > 1e-6).flatten()
        eyes.append(Eye(joint, index, weights[joint][index]))
    expression = planes(head.expression_basis)
    identity = planes(head.identity_basis)
    moving = torch.nonzero(expression.abs().amax((0, 1)) > 0).flatten()
    gram, gram_index = _expression_gram(expression[..., moving])
    flat = head.expression_basis.reshape(len(head.expression_basis), -1).astype(np.float64)
    free = [i for i in range(len(expression)) if i not in GAZE_EXPRESSIONS]
    return LandmarkModel(
        template=planes(head.template),
        identity=identity.reshape(modes, -1),
        expression=expression.reshape(len(expression), -1),
        moving=moving,
        moving_expression=expression[..., moving].contiguous(),
        moving_identity=identity[..., moving].reshape(modes, -1).contiguous(),
        expression_gram=gram,
        gram_index=gram_index,
        neck_weight=weights[NECK],
        still_weight=weights[1],
        eyes=(eyes[0], eyes[1]),
        joint_weights=weights,
        joint_centres=numbers(head.joint_centres),
        joint_basis=numbers(head.joint_basis.reshape(modes, 12)),
        vertex_gram=numbers(flat @ flat.T / head.template.shape[0]),
        free=numbers(np.array(free), torch.long),
        gaze=numbers(np.array(GAZE_EXPRESSIONS), torch.long),
        gaze_map=numbers(_gaze_map(head)),
        contacts=contact_model(head, dtype, lids_settle=head.lids is not None),
    )


def _expression_gram(expression: Tensor) -> tuple[Tensor, Tensor]:
    count = len(expression)
    i, j = torch.triu_indices(count, count, device=expression.device)
    rows = []
    for a, b in PAIRS:
        product = expression[i, a] * expression[j, b]
        rows.append((product + expression[i, b] * expression[j, a] if a != b else product).T)
    full = torch.zeros(count, count, dtype=torch.long, device=expression.device)
    full[i, j] = torch.arange(len(i), device=expression.device)
    return torch.stack(rows).reshape(-1, len(i)).contiguous(), torch.maximum(full, full.T).reshape(
        -1
    )


def _gaze_map(head: HeadModel) -> np.ndarray:
    """Slopes of the eyeLook shapes, read off the head's own function with small rotations."""
    step = 1e-3
    columns = []
    for joint, axis in ((2, 0), (2, 1), (3, 0), (3, 1)):
        joints = np.zeros((2, 4, 3))
        joints[0, joint, axis], joints[1, joint, axis] = step, -step
        up, down = head.gaze_expression(joints)[:, list(GAZE_EXPRESSIONS)]
        columns.append((up - down) / step)
    return np.stack(columns, axis=1)


def gaze_values(model: LandmarkModel, eyes: Tensor) -> tuple[Tensor, Tensor]:
    """The eight eyeLook values (T, 8) of eye joints (T, 4), and their derivative (T, 8, 4)."""
    linear = eyes @ model.gaze_map.T
    inside = (linear > 0) & (linear < 1)
    return linear.clamp(0, 1), inside[..., None] * model.gaze_map
