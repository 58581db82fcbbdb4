"""Covariance of the energy's slope at the truth: M of `densefit.fit.noise`."""

from __future__ import annotations

from dataclasses import replace

import torch

from densefit.fit.bias import mean_length
from densefit.fit.camera_prior import camera_prior_term
from densefit.fit.frame_derivatives import FrameDerivatives
from densefit.fit.geometry import Posed, torque
from densefit.fit.inverse import ScoreCovariance
from densefit.fit.landmark_model import SIX, LandmarkModel, gaze_values
from densefit.fit.landmark_term import Projection, RobustResidual, collapse, projection
from densefit.fit.linearization import Linearization, LossSettings, Planes, chunks
from densefit.fit.noise import NoiseModel
from densefit.fit.priors import Priors, motion_prior_diagonal
from densefit.fit.state import CameraState, State

Tensor = torch.Tensor

FRAMES_AT_ONCE = 8


def score_covariance(
    model: LandmarkModel,
    planes: Planes,
    priors: Priors,
    state: State,
    system: Linearization,
    loss: LossSettings,
    noise: NoiseModel,
    level: Tensor,
) -> ScoreCovariance:
    """Covariance of the energy's slope at the truth: landmark errors, and parameters drawn from the
    priors.

    Args:
        system: the linearization at the minimum. loss: as it was made with.
        level: (C,) standard deviation of the errors over the sigma of `planes`.
    """
    modes = len(system.border) - state.cameras.unknowns
    scatter = _landmark_scatter(model, planes, state, loss, noise, level, system)
    frames = len(system.gradient)
    prior = motion_prior_diagonal(priors, frames)
    border_prior = torch.zeros_like(system.border)
    border_prior.diagonal()[:modes] += priors.identity_weight
    border_prior[modes:, modes:] += camera_prior_term(priors.cameras, state.cameras).block
    cross_prior = torch.zeros_like(system.cross)
    if system.dolly is not None:
        pull, more = system.dolly.prior_columns(priors)
        cross_prior[..., -1] = pull.to(cross_prior.dtype)
        border_prior[-1, -1] += more
    # Identities scatter by one, whatever the weight that their prior has: its slope by the weight.
    people = border_prior.clone()
    people.diagonal()[:modes] *= priors.identity_weight
    # What a bias is drawn from is the landmarks' errors, which are counted below.
    people.diagonal()[modes - model.bias : modes] = 0
    # The part of each error that is its own, in the mean over cameras.
    own = noise.rest * float(level.square().mean()) / loss.correlation
    return ScoreCovariance(
        scatter.diagonal + own * (system.diagonal - prior) + prior,
        scatter.cross + own * (system.cross - cross_prior) + cross_prior,
        scatter.border + own * (system.border - border_prior) + people,
        scatter.shared_frames,
        scatter.shared_border,
    )


def _landmark_scatter(
    model: LandmarkModel,
    planes: Planes,
    state: State,
    loss: LossSettings,
    noise: NoiseModel,
    level: Tensor,
    system: Linearization,
) -> ScoreCovariance:
    """Blocks of sum over frames of (J^T W A s G) (J^T W A s G)^T, and what frames share."""
    dtype = model.dtype
    total = len(system.border)
    modes = total - state.cameras.unknowns
    diagonal = torch.zeros_like(system.diagonal)
    cross = torch.zeros_like(system.cross)
    border = torch.zeros_like(system.border)
    alone, alike = (1 - noise.shared) ** 0.5, noise.shared**0.5
    rank = noise.factor.shape[2]
    shared_frames = torch.zeros(*diagonal.shape[:2], rank, dtype=torch.float64)
    shared_border = torch.zeros(total, rank, dtype=torch.float64)
    shapes = torch.zeros(rank, model.identity.shape[1], dtype=torch.float64)
    factor = noise.factor.permute(2, 1, 0).to(dtype)
    few = replace(loss, chunk=FRAMES_AT_ONCE)
    for part, turns, posed, seen, residual in chunks(model, planes, state, few):
        information, _ = collapse(seen, residual)
        gaze = gaze_values(model, state.motion.eyes[part])[1]
        block = FrameDerivatives(model, posed, turns.pose_jacobian, gaze, information)
        length = _sigma_lengths(planes.precision[part], residual, state.cameras, level)
        moved = factor * length[:, None, None]
        forces = torch.stack([_symmetric_row(block.information, moved, b) for b in range(3)], 2)
        rows, shape = block.pull_back(forces, exact=False)
        shared_frames[part] = alike * rows
        rows = alone * rows
        diagonal[part] += rows @ rows.mT
        if not total:
            continue
        # Every border unknown's share of each error: identity's, and that of all cameras.
        own = torch.zeros(len(rows), rank, total, dtype=dtype)
        if modes:
            own[..., :modes] = shape @ model.identity.T
            shapes += shape.sum(0, dtype=torch.float64)
        if system.dolly is not None:
            column = system.dolly.column(part, posed, residual.inverse_depth[:, 0])
            own[..., -1] = (forces.flatten(2) @ column.flatten(1)[..., None])[..., 0]
        elif total > modes:
            for c in range(len(state.cameras.free_focal)):
                image = _image_forces(seen, c, moved, residual)
                own[..., modes:] += _on_camera(state.cameras, c, image, residual, posed).to(dtype)
        shared_border[modes:] += alike * own[..., modes:].sum(0, dtype=torch.float64).mT
        cross[part] += alone * (rows.to(dtype) @ own)
        flat = alone * own.reshape(-1, total)
        border += (flat.T @ flat).double()
    if modes:
        # Errors of all frames pull against one another in ways that all but cancel: in float64.
        shared_border[:modes] = alike * (shapes @ model.identity.T.double()).mT
    return ScoreCovariance(diagonal, cross, border, shared_frames, shared_border)


def _sigma_lengths(
    precision: Tensor, residual: RobustResidual, cameras: CameraState, level: Tensor
) -> Tensor:
    """(t, L): standard deviation of a landmark's errors in metres across the view, the mean (of
    precisions) over the cameras that see it; zero where none does.

    Args:
        precision: (t, C, L) of the planes. level: (C,) deviation of the errors over sigma.
    """
    pixels = (cameras.log_focal.exp() / level).to(precision.dtype)[:, None]
    information = precision * (residual.inverse_depth * pixels).square()
    return mean_length(information)


def _symmetric_row(six: Tensor, planes: Tensor, b: int) -> Tensor:
    """Row b of H d: six planes of H (t, 6, L), planes d (t, m, 3, L) to (t, m, L)."""
    rows = six[:, SIX[b], None]
    return (
        rows[:, 0] * planes[:, :, 0] + rows[:, 1] * planes[:, :, 1] + rows[:, 2] * planes[:, :, 2]
    )


def _image_forces(view: Projection, c: int, moved: Tensor, residual: RobustResidual) -> Tensor:
    """(t, m, 3, L): pulls of displacements (t, m, 3, L) in the frame that `view` sees points of, in
    camera c, in the form of `landmark_term.coefficients`."""
    count = view.count
    turned = view.rows[:, None, [c, count + c, 2 * count + c]] @ moved
    u, v = residual.u[:, c, None], residual.v[:, c, None]
    weight = (residual.curvature[:, c] * residual.inverse_depth[:, c].square())[:, None]
    gu = weight * (turned[:, :, 0] - u * turned[:, :, 2])
    gv = weight * (turned[:, :, 1] - v * turned[:, :, 2])
    return torch.stack([gu, gv, gu * u + gv * v], 2)


def _on_camera(
    cameras: CameraState, c: int, image: Tensor, residual: RobustResidual, posed: Posed
) -> Tensor:
    """Products (t, m, N) of image forces (t, m, 3, L) in camera c with all camera unknowns."""
    out = torch.zeros(*image.shape[:2], cameras.unknowns, dtype=torch.float64)
    extrinsics, focal = cameras.columns()[c]
    dtype = posed.world.dtype
    if extrinsics is not None:
        scale = float(cameras.log_focal[c].exp())
        lens = torch.diag(torch.tensor([scale, scale, 1.0, 0.0], dtype=torch.float64))[None, :3]
        forces = projection(lens, dtype).to_gradient @ image
        turn = cameras.rotation[c].to(dtype)
        points = turn @ posed.world + cameras.translation[c].to(dtype)[:, None]
        out[..., extrinsics.start : extrinsics.start + 3] = torque(points, forces).mT
        out[..., extrinsics.start + 3 : extrinsics.stop] = forces.sum(3, dtype=torch.float64)
    if focal is not None:
        depth = 1 / residual.inverse_depth[:, c, None].clamp_min(1e-9)
        out[..., focal] = (image[:, :, 2] * depth).sum(2, dtype=torch.float64)
    return out
