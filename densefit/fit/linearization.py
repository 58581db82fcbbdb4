"""Cost, gradient and Gauss-Newton matrix of the whole energy at a state.

The matrix is block-tridiagonal over frames, bordered by identity and cameras:

    [ D_1  O_1            X_1 ]      D_t: frame blocks (P, P)     O_t = -link / dt (kept in Priors)
    [ O_1' D_2  O_2       X_2 ]      X_t: (P, N) cross block of frame t with the border
    [      ...            ... ]
    [ X_1' X_2' ...        S  ]      S: border block (N, N), order: identity (if unknown), cameras
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch

from densefit.fit.camera_columns import CameraColumns, camera_columns
from densefit.fit.camera_prior import camera_prior_term
from densefit.fit.dolly import Dolly
from densefit.fit.frame_derivatives import FrameDerivatives, bent
from densefit.fit.geometry import (
    Posed,
    Rotations,
    person,
    pose_landmarks,
    rotations,
)
from densefit.fit.intersection import (
    ContactSystem,
    contact_points,
    contact_system,
    find_contacts,
)
from densefit.fit.landmark_model import PAIRS, LandmarkModel, gaze_values
from densefit.fit.landmark_term import (
    Projection,
    RobustResidual,
    collapse,
    head_projection,
    project,
    robust_residual,
)
from densefit.fit.priors import Priors, motion_prior, motion_prior_diagonal
from densefit.fit.products import symmetric_products
from densefit.fit.state import Motion, State

Tensor = torch.Tensor


@dataclass(frozen=True)
class Planes:
    """Landmarks to fit: planes in the solver's dtype."""

    xy: Tensor
    """(T, 2, C, L)."""
    precision: Tensor
    """(T, C, L)."""


@dataclass(frozen=True)
class LossSettings:
    """How residuals count."""

    scale: float
    """c of the robust loss."""
    correlation: float
    newton: bool
    chunk: int


@dataclass(frozen=True)
class FrameTerms:
    """Landmarks and contacts of T frames, each by its own unknowns; float64."""

    cost: Tensor
    """(T,)."""
    gradient: Tensor
    """(T, P)."""
    blocks: Tensor
    """(T, P, P)."""


@dataclass(frozen=True)
class Linearization:
    """The quadratic model of the energy at a state; float64 but for `cross`."""

    cost: float
    gradient: Tensor
    """(T, P)."""
    diagonal: Tensor
    """(T, P, P)."""
    border_gradient: Tensor
    """(N,)."""
    border: Tensor
    """(N, N)."""
    cross: Tensor
    """(T, P, N) in the planes' dtype."""
    terms: FrameTerms
    """The part of cost, gradient and diagonal that is not quadratic."""
    dolly: Dolly | None = None
    """The border's last unknown is a focal length that takes the heads along."""


def linearize(
    model: LandmarkModel,
    planes: Planes,
    priors: Priors,
    state: State,
    loss: LossSettings,
    with_identity: bool,
) -> Linearization:
    """Evaluate and differentiate the energy."""
    motion, cameras = state.motion, state.cameras
    frames, size = len(motion), len(model.free) + 13
    modes = model.modes if with_identity else 0
    total = modes + cameras.unknowns
    device = motion.neck.device
    cross = torch.zeros(frames, size, total, dtype=model.dtype, device=device)
    border_gradient = torch.zeros(total, dtype=torch.float64, device=device)
    border = torch.zeros(total, total, dtype=torch.float64, device=device)
    sums, dolly = _IdentitySums(model), Dolly.of(model, state)

    def visit(chunk: Chunk, block: FrameDerivatives, shape: Tensor, pull: Tensor) -> None:
        if with_identity:
            block.identity_cross(out=cross[chunk.part, :, :modes])
            sums.add(block, shape, *_joint_pulls(model, chunk.turns, pull))
        if cameras.unknowns:
            inverse = chunk.residual.inverse_depth[:, 0]
            relief = None if dolly is None else dolly.relief(chunk.part, inverse)
            columns = camera_columns(cameras, chunk.residual, chunk.posed, relief)
            own = cross[chunk.part]
            _add_cameras(model, block, columns, own, border, border_gradient, modes)

    terms, touching = frame_terms(model, planes, priors, state, loss, with_identity, visit)
    if touching is not None:
        cross[:, :, :modes] += touching.cross.to(cross.dtype)
        border[:modes, :modes] += touching.identity_block
        border_gradient[:modes] += touching.identity_gradient
    if with_identity:
        _finish_identity(model, priors, state, sums, border, border_gradient)
    known = camera_prior_term(priors.cameras, cameras)
    border[modes:, modes:] += known.block
    border_gradient[modes:] += known.gradient
    cost = known.cost + 0.5 * priors.identity_weight * (state.identity @ state.identity)
    system = _with_priors(model, priors, motion, terms, cost, (border_gradient, border, cross))
    if dolly is not None:
        pull, own = dolly.prior_columns(priors)
        cross[..., -1] += pull.to(cross.dtype)
        border[-1, -1] += own
        # What the landmarks say of the move is in the gradient already.
        border_gradient[-1] += ((system.gradient - terms.gradient) * dolly.shift).sum()
    return replace(system, dolly=dolly)


def relinearize(
    model: LandmarkModel,
    planes: Planes,
    priors: Priors,
    state: State,
    loss: LossSettings,
    before: Linearization,
    step: Tensor,
    rows: Tensor,
) -> Linearization:
    """After a step (T, P) to a state of known identity and cameras: some frames evaluated and
    differentiated, of the others the quadratic model followed, as they moved next to nothing.

    Args:
        rows: (n,) frames to differentiate.
    """
    old, motion = before.terms, state.motion
    bend = (old.blocks @ step[..., None])[..., 0]
    cost = old.cost + (step * (old.gradient + 0.5 * bend)).sum(1)
    gradient, blocks = old.gradient + bend, old.blocks.clone()
    if len(rows):
        part = State(state.identity, motion.take(rows), state.cameras)
        own = Planes(planes.xy[rows], planes.precision[rows])
        fresh, _ = frame_terms(model, own, priors, part, loss, False, None)
        cost[rows], gradient[rows], blocks[rows] = fresh.cost, fresh.gradient, fresh.blocks
    terms = FrameTerms(cost, gradient, blocks)
    fixed = 0.5 * priors.identity_weight * (state.identity @ state.identity)
    border = (before.border_gradient, before.border, before.cross)
    return _with_priors(model, priors, motion, terms, fixed, border)


def _with_priors(
    model: LandmarkModel,
    priors: Priors,
    motion: Motion,
    terms: FrameTerms,
    cost: Tensor,
    border: tuple[Tensor, Tensor, Tensor],
) -> Linearization:
    smooth, gradient = motion_prior(model, priors, motion)
    total = float(terms.cost.sum() + smooth + cost)
    diagonal = motion_prior_diagonal(priors, len(motion), terms.blocks)
    return Linearization(total, gradient.add_(terms.gradient), diagonal, *border, terms)


def frame_terms(
    model: LandmarkModel,
    planes: Planes,
    priors: Priors,
    state: State,
    loss: LossSettings,
    with_identity: bool,
    visit: Callable[[Chunk, FrameDerivatives, Tensor, Tensor], None] | None,
) -> tuple[FrameTerms, ContactSystem | None]:
    """Landmarks and contacts of all frames, and the contacts by themselves.

    Args:
        visit: is shown each chunk, its derivatives, shape planes and pull (see `collapse`).
    """
    motion = state.motion
    frames, size = len(motion), len(model.free) + 13
    cost = motion.neck.new_empty(frames)
    gradient, blocks = cost.new_empty(frames, size), cost.new_empty(frames, size, size)
    slope = gaze_values(model, motion.eyes)[1]
    for chunk in chunks(model, planes, state, loss):
        part = chunk.part
        information, pull = collapse(chunk.view, chunk.residual)
        jacobian = chunk.turns.pose_jacobian
        block = FrameDerivatives(model, chunk.posed, jacobian, slope[part], information)
        products, shape = block.pull_back(pull[:, None], exact=True)
        cost[part] = chunk.residual.cost.sum(1)
        gradient[part] = products[..., 0]
        block.frame_blocks(out=blocks[part])
        if visit is not None:
            visit(chunk, block, shape, pull)
    touching = _contacts(model, priors, state, with_identity)
    if touching is not None:
        cost += touching.cost
        gradient += touching.gradient
        blocks += touching.blocks
    return FrameTerms(cost, gradient, blocks), touching


def energy(
    model: LandmarkModel, planes: Planes, priors: Priors, state: State, loss: LossSettings
) -> float:
    """All terms of the frames, and none of identity's and the cameras' own."""
    total = motion_prior(model, priors, state.motion)[0]
    for chunk in chunks(model, planes, state, loss):
        total = total + chunk.residual.cost.sum()
    if math.isfinite(priors.contact_sd) and model.contacts.count:
        points = contact_points(model.contacts, state.identity, state.motion.expression)
        touching = find_contacts(model.contacts, points)
        total = total + touching.energy(priors.contact_sd, len(state.motion)).sum()
    return float(total)


def _contacts(
    model: LandmarkModel, priors: Priors, state: State, with_identity: bool
) -> ContactSystem | None:
    if not math.isfinite(priors.contact_sd) or not model.contacts.count:
        return None
    motion = state.motion
    slope = gaze_values(model, motion.eyes)[1]
    return contact_system(
        model.contacts, state.identity, motion.expression, model.free, (model.gaze, slope),
        priors.contact_sd, with_identity,
    )  # fmt: skip


class Chunk(NamedTuple):
    """A few frames: posed landmarks, the cameras as seen from the heads, residuals."""

    part: slice
    turns: Rotations
    posed: Posed
    view: Projection
    residual: RobustResidual


def chunks(
    model: LandmarkModel, planes: Planes, state: State, loss: LossSettings
) -> Iterator[Chunk]:
    """Posed landmarks, the cameras as seen from the heads, and residuals, a few frames at a
    time."""
    whose, motion = person(model, state.identity), state.motion
    turns_all = rotations(motion)
    views = head_projection(
        state.cameras.matrices, motion.rotation, motion.translation, model.dtype
    )
    count = -(-len(motion) // loss.chunk)
    size = -(-len(motion) // max(1, count))  # A few frames left over would cost as much as many.
    for start in range(0, len(motion), max(1, size)):
        part = slice(start, min(len(motion), start + size))
        turns, view = turns_all.take(part), views.take(part)
        posed = pose_landmarks(model, whose, motion.take(part), turns)
        residual = robust_residual(
            project(view, posed.head), planes.xy[part], planes.precision[part],
            loss.scale, 1 / loss.correlation, loss.newton,
        )  # fmt: skip
        yield Chunk(part, turns, posed, view, residual)


class _IdentitySums:
    """Sums over frames from which the identity block follows."""

    def __init__(self, model: LandmarkModel) -> None:
        count, device = model.template.shape[1], model.template.device
        self.information = torch.zeros(6 * count, dtype=torch.float64, device=device)
        self.shape_gradient = torch.zeros(3 * count, dtype=torch.float64, device=device)
        self.neck_gradient = torch.zeros(3, dtype=torch.float64, device=device)
        self.eye_gradients = [
            torch.zeros(3, len(eye.index), dtype=torch.float64, device=device) for eye in model.eyes
        ]

    def add(
        self, block: FrameDerivatives, shape: Tensor, neck: Tensor, eyes: tuple[Tensor, Tensor]
    ) -> None:
        """Add some frames: their information, shape planes of their gradient, pulls on what neck
        and eyes turn about."""
        self.information += block.shape_information.sum(0, dtype=torch.float64).reshape(-1)
        self.shape_gradient += shape.sum((0, 1), dtype=torch.float64)
        self.neck_gradient += neck
        for total, own in zip(self.eye_gradients, eyes, strict=True):
            total += own


def _joint_pulls(
    model: LandmarkModel, turns: Rotations, pull: Tensor
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """Gradient by the neck joint (3,) and by what each eye's landmarks turn about (3, Le), float64:
    such a centre moves its landmarks by weight (I - R_j)."""
    force = (pull @ model.neck_weight[:, None]).double()
    neck = (force - turns.neck.mT @ force).sum(0)[:, 0]
    left, right = (
        eye.weight.double() * (own - turn.mT @ own).sum(0)
        for eye, turn in zip(model.eyes, turns.eyes, strict=True)
        for own in [pull[..., eye.index].double()]
    )
    return neck, (left, right)


def _finish_identity(
    model: LandmarkModel,
    priors: Priors,
    state: State,
    sums: _IdentitySums,
    border: Tensor,
    border_gradient: Tensor,
) -> None:
    modes = model.modes
    basis = model.identity.T.contiguous()
    six = sums.information.to(model.dtype).reshape(len(PAIRS), -1, 1)
    rows = bent(basis.reshape(3, -1, modes), six).flatten(0, 1)
    border[:modes, :modes] += symmetric_products(rows[None], basis[None])
    border[:modes, :modes].diagonal().add_(priors.identity_weight)
    border_gradient[:modes] += (
        (model.identity @ sums.shape_gradient.to(model.dtype)).double()
        + model.neck_basis @ sums.neck_gradient
        + priors.identity_weight * state.identity
    )
    for eye, own in zip(model.eyes, sums.eye_gradients, strict=True):
        border_gradient[:modes] += (eye.basis @ own.reshape(-1).to(model.dtype)).double()


def _add_cameras(
    model: LandmarkModel,
    block: FrameDerivatives,
    columns: CameraColumns,
    cross: Tensor,
    border: Tensor,
    border_gradient: Tensor,
    modes: int,
) -> None:
    products, shape = block.pull_back(columns.planes, exact=False)
    cross[:, :, modes:] = products.to(cross.dtype)
    if modes:
        coupling = (shape.sum(0) @ model.identity.T).double().T
        border[:modes, modes:] += coupling
        border[modes:, :modes] += coupling.T
    border[modes:, modes:] += columns.block
    border_gradient[modes:] += columns.gradient
