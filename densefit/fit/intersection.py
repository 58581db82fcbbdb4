"""E_intersect: skin does not enter the eyeballs, and lips do not enter the teeth.

Both are contacts between a point of the skin and a part that expression and identity move linearly:

    eyes    depth = r + m - |X - c|          c the eyeball's centre, r its radius
    teeth   depth = n . (T - X) + m          T the nearest point of the teeth's front, n its normal

with a small margin m,

    E = sum over contacts with depth > 0 of 1/2 (depth / sd)^2

The head frame moves all of these together, so that pose does not enter. Contacts are found anew at
each linearization; the derivative takes the normal and the nearest point as they are, as is usual
for distances to a surface (the derivative of a distance by the foot point is zero).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from densefit.fit.contact_model import BESIDE, DEEPEST, TEETH_MARGIN, ContactModel

Tensor = torch.Tensor

MARGIN = 0.1e-3
"""m before the surface where skin begins to be held off, so that a step knows of what it is about
to touch; at rest the lids are just outside it."""
PROFILE_STEP, PROFILE_BINS, PROFILE_ROWS = 0.002, 20, 32
"""Cells of |x| (m) from the middle, by rows of height BESIDE: where the teeth are foremost."""


@dataclass(frozen=True)
class Contacts:
    """Points that are inside something: A contacts of t frames."""

    frame: Tensor
    """(A,) long."""
    point: Tensor
    """(A,) long, of the ContactModel."""
    against: Tensor
    """(A,) long: point of the teeth, or -1 for an eyeball."""
    normal: Tensor
    """(A, 3): the way out."""
    depth: Tensor
    """(A,) metres, positive."""

    def energy(self, sd: float, frames: int) -> Tensor:
        """E_intersect of each frame (t,), float64."""
        own = 0.5 * (self.depth.double() / sd).square()
        return own.new_zeros(frames).index_add_(0, self.frame, own)


def contact_points(model: ContactModel, identity: Tensor, expression: Tensor) -> Tensor:
    """Points (t, 3, N) of t frames: identity (K,), expression (t, 52)."""
    dtype = model.template.dtype
    neutral = model.template + (identity.to(dtype) @ model.identity).reshape(3, -1)
    return neutral + (expression.to(dtype) @ model.expression).reshape(len(expression), 3, -1)


def find_contacts(model: ContactModel, points: Tensor) -> Contacts:
    """All contacts of points (t, 3, N)."""
    lids = points[:, :, : model.lids]
    x, y, z = lids.unbind(1)
    distance = (x * x + y * y + z * z).sqrt()
    frame, point = torch.nonzero(distance < model.radius + MARGIN).unbind(1)
    away = lids[frame, :, point]
    length = distance[frame, point]
    eyes = Contacts(
        frame, point, torch.full_like(frame, -1),
        away / length.clamp_min(1e-9)[:, None], model.radius + MARGIN - length,
    )  # fmt: skip
    if not model.lips:
        return eyes
    return _join(eyes, _lip_contacts(model, points))


def _lip_contacts(model: ContactModel, points: Tensor) -> Contacts:
    """Lip points behind their nearest point of the teeth."""
    first, last = model.lids, model.lids + model.lips
    lips, teeth = points[:, :, first:last], points[:, :, last:]
    # A cheap bound first: most lips are well before all teeth that they could be behind.
    inward, before = model.reach
    bottom = teeth[:, 1].amin(1, keepdim=True)
    row = ((lips[:, 1] - bottom) / BESIDE).floor().long().add_(1).clamp_(0, PROFILE_ROWS + 1)
    place = ((lips[:, 0].abs() - inward) / PROFILE_STEP).long().clamp_(0, PROFILE_BINS - 1)
    foremost = _foremost(teeth, bottom).gather(1, row * PROFILE_BINS + place)
    near = lips[:, 2] < foremost + before
    frame, lip = torch.nonzero(near).unbind(1)
    position = lips[frame, :, lip]
    apart = (position[:, :, None] - teeth[frame]).square().sum(1)
    square, nearest = apart.min(1)
    normal = model.normals[nearest]
    behind = (normal * (teeth[frame, :, nearest] - position)).sum(1)
    beside = (square - behind.square()).clamp_min(0).sqrt()
    depth = behind + TEETH_MARGIN
    inside = (depth > 0) & (depth < DEEPEST) & (beside < BESIDE)
    return Contacts(
        frame[inside], lip[inside] + first, nearest[inside] + last, normal[inside], depth[inside]
    )


def _foremost(teeth: Tensor, bottom: Tensor) -> Tensor:
    """Largest z of the teeth (t, 3, N) in a row of cells and its neighbours, at least so far from
    the middle: (t, (PROFILE_ROWS + 2) PROFILE_BINS), the first row below the `bottom` (t, 1)."""
    row = ((teeth[:, 1] - bottom) / BESIDE).long().clamp_(max=PROFILE_ROWS - 1) + 2
    place = (teeth[:, 0].abs() / PROFILE_STEP).long().clamp_(max=PROFILE_BINS - 1)
    cells = teeth.new_full((len(teeth), (PROFILE_ROWS + 4) * PROFILE_BINS), -torch.inf)
    cells.scatter_reduce_(1, row * PROFILE_BINS + place, teeth[:, 2], "amax")
    cells = cells.reshape(len(teeth), -1, PROFILE_BINS)
    own = torch.maximum(torch.maximum(cells[:, :-2], cells[:, 1:-1]), cells[:, 2:])
    return own.flip(2).cummax(2).values.flip(2).flatten(1)


def _join(a: Contacts, b: Contacts) -> Contacts:
    return Contacts(
        *(torch.cat([getattr(a, f), getattr(b, f)]) for f in Contacts.__dataclass_fields__)
    )


def contact_rows(model: ContactModel, contacts: Contacts, basis: Tensor) -> Tensor:
    """Derivative (A, m) of the depths by the coefficients of a basis (m, 3 N)."""
    rows = basis.unflatten(1, (3, -1))
    moved = rows[:, :, contacts.point]
    moved = moved - rows[:, :, contacts.against.clamp_min(0)] * (contacts.against >= 0)
    return -(contacts.normal.T * moved).sum(1).T


def frame_sums(contacts: Contacts, left: Tensor, right: Tensor, frames: int) -> Tensor:
    """sum over each frame's contacts of left^T right: (A, m), (A, n) to (t, m, n) float64.

    The contacts of a frame are laid out in rows of equal length, so that one batched product does
    it.
    """
    out = torch.zeros(frames, left.shape[1], right.shape[1], dtype=torch.float64)
    out = out.to(left.device)
    if not len(contacts.frame):
        return out
    order = torch.argsort(contacts.frame, stable=True)
    frame = contacts.frame[order]
    present, counts = torch.unique_consecutive(frame, return_counts=True)
    starts = torch.cumsum(counts, 0) - counts
    row = torch.repeat_interleave(torch.arange(len(present), device=frame.device), counts)
    place = torch.arange(len(frame), device=frame.device) - starts[row]
    width = int(counts.max())

    def padded(values: Tensor) -> Tensor:
        block = values.new_zeros(len(present), width, values.shape[1])
        block[row, place] = values[order]
        return block

    out[present] = (padded(left).mT @ padded(right)).double()
    return out


@dataclass(frozen=True)
class ContactSystem:
    """First and second derivatives of E_intersect for t frames of P unknowns, float64."""

    cost: Tensor
    """(t,)."""
    gradient: Tensor
    """(t, P)."""
    blocks: Tensor
    """(t, P, P)."""
    cross: Tensor
    """(t, P, K) with identity; K = 0 where that is known."""
    identity_gradient: Tensor
    identity_block: Tensor


def contact_system(
    model: ContactModel,
    identity: Tensor,
    expression: Tensor,
    free: Tensor,
    gaze: tuple[Tensor, Tensor],
    sd: float,
    with_identity: bool,
) -> ContactSystem | None:
    """Differentiate E_intersect; None where nothing touches.

    Args:
        free: (44,) expressions that are unknowns. gaze: the other eight (8,), and their derivative
            (t, 8, 4) by the eye joints.
        sd: depth in metres that costs one half.
    """
    contacts = find_contacts(model, contact_points(model, identity, expression))
    if not len(contacts.frame):
        return None
    frames = len(expression)
    rows = contact_rows(model, contacts, model.expression) / sd
    eyes = (rows[:, None, gaze[0]] @ gaze[1].to(rows.dtype)[contacts.frame])[:, 0]
    rows = torch.cat([rows[:, free], rows.new_zeros(len(rows), 9), eyes], 1)
    depth = (contacts.depth / sd)[:, None]
    basis = model.identity if with_identity else model.identity[:0]
    own = contact_rows(model, contacts, basis) / sd
    return ContactSystem(
        contacts.energy(sd, frames),
        frame_sums(contacts, rows, depth, frames)[..., 0],
        frame_sums(contacts, rows, rows, frames),
        frame_sums(contacts, rows, own, frames),
        (own.T @ depth)[:, 0].double(), (own.T @ own).double(),
    )  # fmt: skip
