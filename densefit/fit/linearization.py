"""Cost, gradient and Gauss-Newton matrix of the whole energy at a state.

The matrix is block-tridiagonal over frames, bordered by identity and cameras:

    [ D_1  O_1            X_1 ]      D_t: frame blocks (P, P)     O_t = -link / dt (kept in Priors)
    [ O_1' D_2  O_2       X_2 ]      X_t: (P, N) cross block of frame t with the border
    [      ...            ... ]
    [ X_1' X_2' ...        S  ]      S: border block (N, N), order: identity (if unknown), cameras
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from densefit.fit.camera_columns import CameraColumns, camera_columns
from densefit.fit.geometry import (
    Posed,
    congruence,
    cross_columns,
    joint_positions,
    neutral_planes,
    pose_landmarks,
    rigid_products,
    rotations,
    shape_planes,
    shape_planes_rigid_eyes,
    torque,
    unit_columns,
)
from densefit.fit.landmark_model import PAIRS, SIX, LandmarkModel, gaze_values
from densefit.fit.landmark_term import collapse, project, projection, robust_residual
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


@dataclass
class _Sums:
    """Sums over frames that the border needs."""

    information: Tensor
    shape_gradient: Tensor
    joint_gradient: Tensor


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
    landmarks = model.template.shape[1]
    sums = _Sums(*(torch.zeros(n, dtype=torch.float64, device=device) for n in (6 * landmarks, 3 * landmarks, 12)))

    turns_all = rotations(motion)
    neutral, centres = neutral_planes(model, state.identity), joint_positions(model, state.identity)
    view = projection(cameras.matrices, model.dtype)
    for start in range(0, frames, loss.chunk):
        part = slice(start, min(frames, start + loss.chunk))
        here = motion.take(part)
        turns = type(turns_all)(
            turns_all.neck[part], (turns_all.eyes[0][part], turns_all.eyes[1][part]), turns_all.pose_jacobian[part]
        )
        posed = pose_landmarks(model, neutral, centres, here, turns)
        residual = robust_residual(
            project(view, posed.world), planes.xy[part], planes.precision[part],
            loss.scale, 1 / loss.correlation, loss.newton,
        )  # fmt: skip
        cost = cost + residual.cost.sum(dtype=torch.float64)
        information, pull = collapse(view, residual)
        to_head = congruence(here.rotation).to(model.dtype)
        information, pull = to_head @ information, posed.head_rotation.mT @ pull
        gaze = gaze_values(model, here.eyes)[1]
        columns = camera_columns(cameras, residual, posed) if cameras.unknowns else None
        chunk = _Chunk(model, posed, turns.pose_jacobian, gaze)
        gradient[part] = chunk.pull_back(pull[:, None])[0][..., 0]
        diagonal[part] += chunk.frame_blocks(information)
        if with_identity:
            cross[part, :, :modes] = chunk.identity_cross(information, sums)
            sums.shape_gradient += shape_planes(model, posed, pull[:, None]).sum((0, 1), dtype=torch.float64)
            sums.joint_gradient += _joint_pull(model, turns, pull)
        if columns is not None:
            _add_cameras(model, chunk, columns, cross[part], border, border_gradient, modes)
    if with_identity:
        _finish_identity(model, priors, state, sums, border, border_gradient)
    cost = cost + 0.5 * priors.identity_weight * (state.identity @ state.identity)
    cost = cost + _focal_prior(priors, state, border, border_gradient, modes)
    return Linearization(float(cost), gradient + prior_gradient, diagonal, border_gradient, border, cross)


@dataclass(frozen=True)
class _Chunk:
    """Derivatives of the landmark term for t frames."""

    model: LandmarkModel
    posed: Posed
    pose_jacobian: Tensor
    """(t, 15, 13)."""
    gaze: Tensor
    """(t, 8, 4): d eyeLook / d eyes."""

    def pull_back(self, planes: Tensor) -> tuple[Tensor, Tensor]:
        """Products (t, P, m) of planes (t, m, 3, L) with every frame unknown, and their shape planes."""
        model, posed = self.model, self.posed
        shape = shape_planes(model, posed, planes)
        expression = (shape @ model.expression.T).double().mT
        eyes = [torque(arm, planes[..., e.index]) for e, arm in zip(model.eyes, posed.eye_arms, strict=True)]
        pose = torch.cat([rigid_products(posed.arms, planes), *eyes], 1)
        return self._to_unknowns(expression, self.pose_jacobian.mT @ pose), shape

    def _to_unknowns(self, expression: Tensor, pose: Tensor) -> Tensor:
        """Rows of 52 expressions and 13 pose unknowns to rows of P unknowns: the lids follow the eyes."""
        pose = pose.clone()
        pose[:, 9:] += self.gaze.mT.to(pose.dtype) @ expression[:, self.model.gaze]
        return torch.cat([expression[:, self.model.free], pose], 1)

    def frame_blocks(self, information: Tensor) -> Tensor:
        """Gauss-Newton blocks (t, P, P) from information planes (t, 6, L) in the head frame."""
        model, posed = self.model, self.posed
        frames = len(information)
        rigid = self._rigid_columns(information)
        pose = torch.zeros(frames, 15, 15, dtype=torch.float64, device=information.device)
        pose[:, :9, :9] = rigid_products(posed.arms, rigid)
        mixed = torch.empty(frames, 15, len(model.expression), dtype=torch.float64, device=information.device)
        mixed[:, :9] = (shape_planes_rigid_eyes(model.neck_weight, posed, rigid) @ model.expression.T).double()
        for e, (eye, columns) in enumerate(zip(model.eyes, self._eye_columns(information), strict=True)):
            at = slice(9 + 3 * e, 12 + 3 * e)
            pose[:, at, at] = torque(posed.eye_arms[e], columns)
            coupling = rigid_products(posed.arms[..., eye.index], columns)
            pose[:, :9, at], pose[:, at, :9] = coupling, coupling.mT
            rows = shape_planes_rigid_eyes(model.neck_weight[eye.index], posed, columns)
            mixed[:, at] = (rows @ self._on_eye(model.expression, eye.index).T).double()
        shape = self._shape_information(information).reshape(frames, -1) @ model.expression_gram
        count = len(model.expression)
        expression = shape.index_select(1, model.gram_index).reshape(frames, count, count).double()
        jacobian = self.pose_jacobian
        return self._assemble(expression, jacobian.mT @ mixed, jacobian.mT @ pose @ jacobian)

    def _assemble(self, expression: Tensor, mixed: Tensor, pose: Tensor) -> Tensor:
        free, gaze, lids = self.model.free, self.model.gaze, self.gaze
        coupling = mixed[:, :, gaze] @ lids
        pose[:, :, 9:] += coupling
        pose[:, 9:, :] += coupling.mT
        pose[:, 9:, 9:] += lids.mT @ expression[:, gaze][:, :, gaze] @ lids
        rows = mixed[:, :, free]
        rows[:, 9:] += lids.mT @ expression[:, gaze][:, :, free]
        top = torch.cat([expression[:, free][:, :, free], rows.mT], 2)
        return torch.cat([top, torch.cat([rows, pose], 2)], 1)

    def identity_cross(self, information: Tensor, sums: _Sums) -> Tensor:
        """Cross blocks (t, P, K) of the frames with identity; adds to the identity block's planes."""
        model, posed = self.model, self.posed
        frames, _, count = information.shape
        shape = self._shape_information(information)
        sums.information += shape.sum(0, dtype=torch.float64).reshape(-1)
        rows = [
            torch.stack([_symmetric_row(model.expression.reshape(-1, 3, count), shape, b) for b in range(3)], 2),
            shape_planes_rigid_eyes(model.neck_weight, posed, self._rigid_columns(information)).reshape(
                frames, 9, 3, count
            ),
        ]
        stacked = torch.cat(rows, 1).reshape(-1, 3 * count) @ model.identity.T
        stacked = stacked.reshape(frames, -1, model.modes)
        eyes = []
        for eye, columns in zip(model.eyes, self._eye_columns(information), strict=True):
            planes = shape_planes_rigid_eyes(model.neck_weight[eye.index], posed, columns)
            eyes.append(planes @ self._on_eye(model.identity, eye.index).T)
        split = len(model.expression)
        pose = self.pose_jacobian.mT.to(model.dtype) @ torch.cat([stacked[:, split:], *eyes], 1)
        return self._to_unknowns(stacked[:, :split], pose)

    def _rigid_columns(self, information: Tensor) -> Tensor:
        return torch.cat([
            cross_columns(information, self.posed.head),
            unit_columns(information),
            cross_columns(information, self.posed.neck_arm),
        ], 1)  # fmt: skip

    def _eye_columns(self, information: Tensor) -> list[Tensor]:
        pairs = zip(self.model.eyes, self.posed.eye_arms, strict=True)
        return [cross_columns(information[..., eye.index], arm) for eye, arm in pairs]

    def _shape_information(self, information: Tensor) -> Tensor:
        """M^T H M (t, 6, L) with M = u I + w R_neck, u = 1 - w (see shape_planes_rigid_eyes)."""
        w = self.model.neck_weight
        turn = self.posed.neck_rotation
        identity = torch.eye(3, dtype=turn.dtype, device=turn.device).expand_as(turn)
        both = congruence(turn)
        mixed = congruence(turn + identity) - both - congruence(identity)
        # M^T H M = H + w (mixed - 2 H) + w^2 (H - mixed + R^T H R)
        bent = torch.cat([mixed, both], 1) @ information
        cross, turned = bent[:, :6], bent[:, 6:]
        return information + w * (cross - 2 * information) + (w * w) * (information - cross + turned)

    @staticmethod
    def _on_eye(basis: Tensor, index: Tensor) -> Tensor:
        return basis.reshape(len(basis), 3, -1)[..., index].reshape(len(basis), -1)


def _symmetric_row(basis: Tensor, six: Tensor, b: int) -> Tensor:
    """Row b of G basis: basis (m, 3, L), six (t, 6, L) to (t, m, L)."""
    terms = [basis[:, a] * six[:, None, SIX[a][b]] for a in range(3)]
    return terms[0] + terms[1] + terms[2]


def _joint_pull(model: LandmarkModel, turns: object, pull: Tensor) -> Tensor:
    """Gradient (12,) by the joint centres: a centre moves its landmarks by weight (I - R_j)."""
    forces = (pull @ model.joint_weights.T).double()
    out = torch.zeros(4, 3, dtype=torch.float64, device=pull.device)
    neck, eyes = turns.neck, turns.eyes  # type: ignore[attr-defined]
    for joint, turn in ((0, neck), (2, eyes[0]), (3, eyes[1])):
        force = forces[:, :, joint : joint + 1]
        out[joint] = (force - turn.mT @ force).sum(0)[:, 0]
    return out.reshape(-1)


def _finish_identity(
    model: LandmarkModel, priors: Priors, state: State, sums: _Sums, border: Tensor, border_gradient: Tensor
) -> None:
    modes = model.modes
    basis = model.identity.reshape(modes, 3, -1)
    six = sums.information.to(model.dtype).reshape(1, len(PAIRS), -1)
    bent = torch.stack([_symmetric_row(basis, six, b)[0] for b in range(3)], 1).reshape(modes, -1)
    block = (bent @ model.identity.T).double()
    border[:modes, :modes] = 0.5 * (block + block.T)
    border[:modes, :modes].diagonal().add_(priors.identity_weight)
    border_gradient[:modes] = (
        (model.identity @ sums.shape_gradient.to(model.dtype)).double()
        + model.joint_basis @ sums.joint_gradient
        + priors.identity_weight * state.identity
    )


def _add_cameras(
    model: LandmarkModel,
    chunk: _Chunk,
    columns: CameraColumns,
    cross: Tensor,
    border: Tensor,
    border_gradient: Tensor,
    modes: int,
) -> None:
    products, shape = chunk.pull_back(columns.planes)
    cross[:, :, modes:] = products.to(cross.dtype)
    if modes:
        coupling = (shape.sum(0) @ model.identity.T).double().T
        border[:modes, modes:] += coupling
        border[modes:, :modes] += coupling.T
    border[modes:, modes:] += columns.block
    border_gradient[modes:] += columns.gradient


def _focal_prior(priors: Priors, state: State, border: Tensor, border_gradient: Tensor, modes: int) -> Tensor:
    cost = torch.zeros((), dtype=torch.float64)
    for c, (_, focal) in enumerate(state.cameras.columns()):
        if focal is None:
            continue
        away = state.cameras.log_focal[c] - priors.focal_mean[c]
        cost = cost + 0.5 * (away / priors.focal_sd) ** 2
        border_gradient[modes + focal] += away / priors.focal_sd**2
        border[modes + focal, modes + focal] += priors.focal_sd**-2
    return cost
