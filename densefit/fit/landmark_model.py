"""The head reduced to its landmarks, as torch planes: what the solver evaluates and differentiates.

Planes are (..., 3, L): landmark innermost. A landmark is skinned like a vertex, with the weights
interpolated over its triangle; on the shipped head that differs from skinning the triangle's
corners by less than 0.1 mm at the largest neck rotations.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch

from densefit.fit.contact_model import ContactModel, contact_model
from densefit.head.model import GAZE_EXPRESSIONS, HeadModel

Tensor = torch.Tensor

# Unordered index pairs of a symmetric 3x3 matrix stored as six planes.
PAIRS = ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))
SIX = ((0, 1, 2), (1, 3, 4), (2, 4, 5))
NECK, LEFT_EYE, RIGHT_EYE = 0, 2, 3
GROUP_OVERHEAD = 3000
"""Products of pairs at a landmark that one more group of landmarks costs as much as."""


@dataclass(frozen=True)
class Eye:
    """Landmarks that one eye joint turns."""

    index: Tensor
    """(Le,) landmarks."""
    weight: Tensor
    """(Le,) skinning weight."""
    centre: Tensor
    """(3, Le): what each of them turns about: the joint's place, and with a network's bias among
    the modes as far beside it as the landmark is seen beside its own, whatever the eye's turn."""
    basis: Tensor
    """(K, 3 Le): how identity moves these."""
    shared: tuple[Tensor, Tensor]
    """Places, here and among the neck's, of landmarks that the neck turns too."""


@dataclass(frozen=True)
class Moved:
    """Ls landmarks that one expression moves."""

    index: Tensor
    """(Ls,) landmarks."""
    expression: Tensor
    """(3, Ls, 1): how far."""
    identity: Tensor
    """(3 Ls, K): how far the modes of identity move them."""


@dataclass(frozen=True)
class LandmarkModel:
    """Landmark rows of a HeadModel. L landmarks, K identity modes, 52 expressions."""

    template: Tensor
    """(3, L) metres."""
    identity: Tensor
    """(K, 3 L)."""
    expression: Tensor
    """(52, 3 L)."""
    grams: tuple[Tensor, ...]
    """(6 Lg, m (m + 1) / 2) of each group of Lg landmarks that much the same m expressions move
    (lids, brows, cheeks, lips): products of pairs of expression rows, so that E^T G E is one
    product. Those vanish but for a tenth of all landmarks; by groups, most of the others are never
    computed."""
    group_rows: Tensor
    """Rows of (6 L) information planes, group after group as in `grams`."""
    pair_rounds: tuple[Tensor, ...]
    """Places in the groups' products one after the other: all pairs at work, then the first ones
    that have a second product to add, and so on."""
    pair_places: Tensor
    """(52, 52) places of each pair among those sums, plus one; zero where no landmark has both."""
    neck: Tensor
    """(Ln,) landmarks that the neck joint turns."""
    neck_weight: Tensor
    """(L,)."""
    still_weight: Tensor
    """(L,): of the head joint, which never turns."""
    eyes: tuple[Eye, Eye]
    neck_centre: Tensor
    """(3,) float64: of the neck joint."""
    neck_basis: Tensor
    """(K, 3) float64."""
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
    bias: int = 0
    """So many of the K modes, the last ones, are no shape but the network's bias (`bias.py`)."""

    @cached_property
    def moved(self) -> tuple[Moved, ...]:
        """By expression, 52: made where identity is unknown."""
        identity = self.identity.T.contiguous().reshape(3, -1, self.modes)
        out = []
        for planes in self.expression.reshape(len(self.expression), 3, -1):
            index = torch.nonzero(planes.abs().amax(0)).flatten()
            own = identity.index_select(1, index).flatten(0, 1)
            out.append(Moved(index, planes[:, index, None].contiguous(), own))
        return tuple(out)

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
    centres, moved = numbers(head.joint_centres), numbers(head.joint_basis.reshape(modes, 4, 3))
    weights = numbers(
        np.einsum("kcj,kc->jk", head.skinning[head.landmark_vertices], head.landmark_weights), dtype
    )
    neck = torch.nonzero(weights[NECK] > 0).flatten()
    eyes = []
    for joint in (LEFT_EYE, RIGHT_EYE):
        index = torch.nonzero(weights[joint] > 1e-6).flatten()
        own, bent = torch.nonzero(index[:, None] == neck).unbind(1)
        centre = centres[joint, :, None].expand(-1, len(index)).to(dtype)
        basis = moved[:, joint, :, None].expand(-1, -1, len(index)).flatten(1).to(dtype)
        eyes.append(Eye(index, weights[joint][index], centre, basis, (own, bent)))
    expression = planes(head.expression_basis)
    identity = planes(head.identity_basis)
    groups = shape_groups((expression.abs().amax(1) > 0).T.numpy())
    flat = head.expression_basis.reshape(len(head.expression_basis), -1).astype(np.float64)
    free = [i for i in range(len(expression)) if i not in GAZE_EXPRESSIONS]
    return LandmarkModel(
        template=planes(head.template),
        identity=identity.reshape(modes, -1),
        expression=expression.reshape(len(expression), -1),
        grams=tuple(_gram(expression, *group) for group in groups),
        group_rows=_group_rows(groups, len(weights[NECK])),
        **_pair_sums(groups, len(expression)),
        neck=neck,
        neck_weight=weights[NECK],
        still_weight=weights[1],
        eyes=(eyes[0], eyes[1]),
        neck_centre=centres[NECK],
        neck_basis=moved[:, NECK],
        vertex_gram=numbers(flat @ flat.T / head.template.shape[0]),
        free=numbers(np.array(free), torch.long),
        gaze=numbers(np.array(GAZE_EXPRESSIONS), torch.long),
        gaze_map=numbers(_gaze_map(head)),
        contacts=contact_model(head, dtype, lids_settle=head.lids is not None),
    )


def along(model: LandmarkModel, identity: Tensor, directions: Tensor) -> LandmarkModel:
    """The head about one person, with some directions of identity as its modes.

    Args:
        identity: (K,) float64, of the person who is the template then. directions: (K, m) float64.
    """
    own, turn = identity.to(model.dtype), directions.T.to(model.dtype)
    contacts = model.contacts
    left, right = (
        replace(
            eye, centre=eye.centre + (own @ eye.basis).reshape(3, -1), basis=turn @ eye.basis
        )
        for eye in model.eyes
    )  # fmt: skip
    return replace(
        model,
        template=model.template + (own @ model.identity).reshape(3, -1),
        identity=turn @ model.identity,
        neck_centre=model.neck_centre + identity @ model.neck_basis,
        neck_basis=directions.T @ model.neck_basis,
        eyes=(left, right),
        contacts=replace(
            contacts,
            template=contacts.template + (own @ contacts.identity).reshape(3, -1),
            identity=turn @ contacts.identity,
        ),
    )


def shape_groups(moves: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Landmarks and expressions of groups that together hold every pair at work.

    Landmarks moved by the same expressions are merged, greedily, as long as that saves products.

    Args:
        moves: (L, 52) bool.
    """
    kinds, kind = np.unique(moves, axis=0, return_inverse=True)
    used = kinds[kinds.any(1)]
    members = [np.flatnonzero(kind == i) for i in np.flatnonzero(kinds.any(1))]
    sizes = np.array([len(m) for m in members])
    alive = np.ones(len(members), bool)

    def savings(group: int) -> np.ndarray:
        """Products saved by merging a group with each of the others; integers, exact."""
        own, together = _pairs(used.sum(1)), _pairs((used | used[group]).sum(1))
        saved = sizes * own + sizes[group] * own[group] + GROUP_OVERHEAD
        saved -= (sizes + sizes[group]) * together
        return np.where(alive & (np.arange(len(sizes)) != group), saved, 0)

    table = np.array([savings(group) for group in range(len(members))])
    while table.size and table.max() > 0:
        a, b = sorted(np.unravel_index(table.argmax(), table.shape))
        members[a] = np.sort(np.concatenate([members[a], members[b]]))
        sizes[a] += sizes[b]
        used[a] |= used[b]
        alive[b] = False
        table[b] = table[:, b] = 0
        table[a] = table[:, a] = savings(int(a))
    return [(members[i], np.flatnonzero(used[i])) for i in np.flatnonzero(alive)]


def _pairs(count: np.ndarray) -> np.ndarray:
    """Unordered pairs of `count` things, each with itself too."""
    return count * (count + 1) // 2


def _gram(expression: Tensor, landmarks: np.ndarray, shapes: np.ndarray) -> Tensor:
    rows = expression[torch.from_numpy(shapes)][..., torch.from_numpy(landmarks)].contiguous()
    i, j = torch.triu_indices(len(rows), len(rows))
    products = []
    for a, b in PAIRS:
        product = rows[i, a] * rows[j, b]
        products.append((product + rows[i, b] * rows[j, a] if a != b else product).T)
    return torch.cat(products).contiguous()


def _group_rows(groups: list[tuple[np.ndarray, np.ndarray]], landmarks: int) -> Tensor:
    planes = landmarks * np.arange(len(PAIRS))[:, None]
    return torch.from_numpy(np.concatenate([(planes + index).ravel() for index, _ in groups]))


def _pair_sums(groups: list[tuple[np.ndarray, np.ndarray]], count: int) -> dict[str, Any]:
    """How the products of all groups add up to those of `count` expressions."""
    pairs = [(s[i], s[j]) for _, s in groups for i, j in [np.triu_indices(len(s))]]
    key = np.concatenate([a * count + b for a, b in pairs])
    order = np.argsort(key, kind="stable")
    own, first, times = np.unique(key[order], return_index=True, return_counts=True)
    often = np.argsort(-times, kind="stable")
    own, first, times = own[often], first[often], times[often]
    rounds = [order[first[times > n] + n] for n in range(int(times.max()))]
    places = np.zeros((count, count), int)
    places[own // count, own % count] = places[own % count, own // count] = 1 + np.arange(len(own))
    return {
        "pair_rounds": tuple(torch.from_numpy(r) for r in rounds),
        "pair_places": torch.from_numpy(places),
    }


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
