"""Cost, gradient and Gauss-Newton matrix of the whole energy at a state.

The matrix is block-tridiagonal over frames, bordered by identity and cameras:

    [ D_1  O_1            X_1 ]      D_t: frame blocks (P, P)     O_t = -link / dt (kept in Priors)
    [ O_1' D_2  O_2       X_2 ]      X_t: (P, N) cross block of frame t with the border
    [      ...            ... ]
    [ X_1' X_2' ...        S  ]      S: border block (N, N), order: identity (if unknown), cameras
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from densefit.fit.camera_columns import CameraColumns, camera_columns
from densefit.fit.camera_prior import camera_prior_term
from densefit.fit.frame_derivatives import FrameDerivatives, symmetric_row
from densefit.fit.geometry import (
    Posed,
    Rotations,
    joint_positions,
    neutral_planes,
    pose_landmarks,
    rotations,
)
from densefit.fit.intersection import ContactSystem, contact_system
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
from densefit.fit.state import State

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
    cost, prior_gradient = motion_prior(model, priors, motion)
    gradient = torch.zeros(frames, size, dtype=torch.float64, device=device)
    diagonal = motion_prior_diagonal(priors, frames)
    cross = torch.zeros(frames, size, total, dtype=model.dtype, device=device)
    border_gradient = torch.zeros(total, dtype=torch.float64, device=device)
    border = torch.zeros(total, total, dtype=torch.float64, device=device)
    sums = _IdentitySums(model)
    for part, turns, posed, view, residual in chunks(model, planes, state, loss):
        cost = cost + residual.cost.sum()
        information, pull = collapse(view, residual)
        gaze = gaze_values(model, motion.eyes[part])[1]
        block = FrameDerivatives(model, posed, turns.pose_jacobian, gaze, information)
        products, shape = block.pull_back(pull[:, None], exact=True)
        gradient[part] = products[..., 0]
        diagonal[part] += block.frame_blocks()
        if with_identity:
            cross[part, :, :modes] = block.identity_cross()
            sums.add(block, shape, _joint_pull(model, turns, pull))
        if cameras.unknowns:
            columns = camera_columns(cameras, residual, posed)
            _add_cameras(model, block, columns, cross[part], border, border_gradient, modes)
    touching = _contacts(model, priors, state, with_identity)
    if touching is not None:
        cost = cost + touching.cost
        gradient += touching.gradient
        diagonal += touching.blocks
        cross[:, :, :modes] += touching.cross.to(cross.dtype)
        border[:modes, :modes] += touching.identity_block
        border_gradient[:modes] += touching.identity_gradient
    if with_identity:
        _finish_identity(model, priors, state, sums, border, border_gradient)
    cost = cost + 0.5 * priors.identity_weight * (state.identity @ state.identity)
    known = camera_prior_term(priors.cameras, cameras)
    cost = cost + known.cost
    border[modes:, modes:] += known.block
    border_gradient[modes:] += known.gradient
    return Linearization(
        float(cost), gradient + prior_gradient, diagonal, border_gradient, border, cross
    )


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


def chunks(
    model: LandmarkModel, planes: Planes, state: State, loss: LossSettings
) -> Iterator[tuple[slice, Rotations, Posed, Projection, RobustResidual]]:
    """Posed landmarks, the cameras as seen from the heads, and residuals, a few frames at a
    time."""
    neutral, centres = neutral_planes(model, state.identity), joint_positions(model, state.identity)
    motion = state.motion
    turns_all = rotations(motion)
    views = head_projection(
        state.cameras.matrices, motion.rotation, motion.translation, model.dtype
    )
    for start in range(0, len(motion), loss.chunk):
        part = slice(start, min(len(motion), start + loss.chunk))
        turns, view = turns_all.take(part), views.take(part)
        posed = pose_landmarks(model, neutral, centres, motion.take(part), turns)
        residual = robust_residual(
            project(view, posed.head), planes.xy[part], planes.precision[part],
            loss.scale, 1 / loss.correlation, loss.newton,
        )  # fmt: skip
        yield part, turns, posed, view, residual


class _IdentitySums:
    """Sums over frames from which the identity block follows."""

    def __init__(self, model: LandmarkModel) -> None:
        count, device = model.template.shape[1], model.template.device
        self.information = torch.zeros(6 * count, dtype=torch.float64, device=device)
        self.shape_gradient = torch.zeros(3 * count, dtype=torch.float64, device=device)
        self.joint_gradient = torch.zeros(12, dtype=torch.float64, device=device)

    def add(self, block: FrameDerivatives, shape: Tensor, joints: Tensor) -> None:
        """Add some frames: their information, shape planes of their gradient, pull on the joint
        centres."""
        self.information += block.shape_information.sum(0, dtype=torch.float64).reshape(-1)
        self.shape_gradient += shape.sum((0, 1), dtype=torch.float64)
        self.joint_gradient += joints


def _joint_pull(model: LandmarkModel, turns: Rotations, pull: Tensor) -> Tensor:
    """Gradient (12,) by the joint centres: a centre moves its landmarks by weight (I - R_j)."""
    forces = (pull @ model.joint_weights.T).double()
    out = torch.zeros(4, 3, dtype=torch.float64, device=pull.device)
    for joint, turn in ((0, turns.neck), (2, turns.eyes[0]), (3, turns.eyes[1])):
        force = forces[:, :, joint : joint + 1]
        out[joint] = (force - turn.mT @ force).sum(0)[:, 0]
    return out.reshape(-1)


def _finish_identity(
    model: LandmarkModel,
    priors: Priors,
    state: State,
    sums: _IdentitySums,
    border: Tensor,
    border_gradient: Tensor,
) -> None:
    modes = model.modes
    basis = model.identity.reshape(modes, 3, -1)
    six = sums.information.to(model.dtype).reshape(1, len(PAIRS), -1)
    bent = torch.stack([symmetric_row(basis, six, b)[0] for b in range(3)], 1).reshape(modes, -1)
    block = (bent @ model.identity.T).double()
    border[:modes, :modes] += 0.5 * (block + block.T)
    border[:modes, :modes].diagonal().add_(priors.identity_weight)
    border_gradient[:modes] += (
        (model.identity @ sums.shape_gradient.to(model.dtype)).double()
        + model.joint_basis @ sums.joint_gradient
        + priors.identity_weight * state.identity
    )


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
