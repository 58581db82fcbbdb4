"""Deviations of a fit whose landmarks err together.

A network's errors in one picture are far from independent: most of their variance lies in a few
dozen directions (a face seen a little too wide, a mouth a little too open), which look to the fit
like shape and motion. With the covariance C of the standardised errors, measured on held-out
renders (benchmarks/landmark_noise.py), the minimum scatters about the truth with

    H^-1 M H^-1,    M = sum over pictures of J^T W S C S W J + P

(the sandwich of Godambe and Huber; H the matrix of the energy, J the landmarks' Jacobian, W their
weights, S their sigmas, P the priors' precision: parameters are drawn from the priors). M has the
blocks of H, and the diagonal of the product is a derivative of that of an inverse,

    d/de diag (H + e M)^-1 = -diag H^-1 M H^-1   at e = 0,

so that two more factorizations give it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import torch

from densefit.fit.camera_prior import camera_prior_term
from densefit.fit.frame_derivatives import FrameDerivatives
from densefit.fit.geometry import Posed, torque
from densefit.fit.landmark_model import LandmarkModel, gaze_values
from densefit.fit.landmark_term import RobustResidual, collapse, projection
from densefit.fit.linearization import Linearization, LossSettings, Planes, chunks
from densefit.fit.newton_step import Deviations, deviations
from densefit.fit.options import FitOptions
from densefit.fit.priors import Priors, motion_prior_diagonal
from densefit.fit.state import CameraState, State

Tensor = torch.Tensor

FILE = Path(__file__).with_name("noise.npz")
FRAMES_AT_ONCE = 8
ABSORBED = 0.69
"""Share of the errors' variance that a fit to one picture follows, so that residuals do not show
it; several pictures disagree, and share it. Measured on takes drawn from the priors with these
errors: residuals of 0.56 sigma with one camera, 0.86 with three."""
STEP = 0.02
"""e, over the size of M against H."""


@dataclass(frozen=True)
class NoiseModel:
    """Covariance of a picture's standardised errors: factor factor^T + diag(rest), mean variance
    one."""

    factor: Tensor
    """(L, 2, r): x and y of the picture."""
    rest: float
    """Mean variance that the factor leaves."""


@dataclass(frozen=True)
class Inflation:
    """By how much deviations exceed those of independent errors."""

    frames: Tensor
    """(P,), median over the frames."""
    border: Tensor
    """(N,)."""

    @staticmethod
    def of(noisy: Deviations, plain: Deviations) -> Inflation:
        """From one system's deviations both ways."""
        frames = (noisy.frames / plain.frames.clamp_min(1e-300)).median(0).values
        return Inflation(frames, noisy.border / plain.border.clamp_min(1e-300))

    def apply(self, plain: Deviations) -> Deviations:
        """Of other frames of the same take, or of more of them."""
        border = self.border[: len(plain.border)]
        covariance = torch.outer(border, border) * plain.border_covariance
        return Deviations(plain.frames * self.frames, plain.border * border, covariance)


@cache
def shipped_noise() -> NoiseModel:
    """As measured with the shipped network."""
    with np.load(FILE, allow_pickle=False) as arrays:
        return NoiseModel(
            torch.tensor(arrays["factor"].astype(np.float64)),
            float(arrays["rest"].astype(np.float64).mean()),
        )


def noise_model(landmarks: int, options: FitOptions) -> NoiseModel | None:
    """The shipped model, or None: another head's landmarks, or errors said to be independent
    (`correlation` 1)."""
    if options.correlation == 1.0:
        return None
    model = shipped_noise()
    return model if len(model.factor) == landmarks else None


def error_level(residual: Tensor, pictures: float) -> Tensor:
    """Deviation (C,) of the errors from that of the residuals, both over sigma.

    Args:
        pictures: a frame's, in the mean.
    """
    return residual.nan_to_num(1.0) / (1 - ABSORBED / max(pictures, 1.0)) ** 0.5


def noisy_deviations(
    model: LandmarkModel,
    planes: Planes,
    priors: Priors,
    state: State,
    system: Linearization,
    loss: LossSettings,
    noise: NoiseModel,
    level: Tensor,
) -> Deviations:
    """Standard deviations of all unknowns where errors go together.

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
    # The part of each error that is its own, in the mean over cameras.
    own = noise.rest * float(level.square().mean()) / loss.correlation
    diagonal = scatter.diagonal + own * (system.diagonal - prior) + prior
    border = scatter.border + own * (system.border - border_prior) + border_prior
    cross = scatter.cross + own * system.cross
    size = float(
        (diagonal.diagonal(dim1=1, dim2=2) / system.diagonal.diagonal(dim1=1, dim2=2)).max()
    )
    step = STEP / max(1.0, size)

    def shifted(e: float) -> Deviations:
        moved = replace(
            system, diagonal=system.diagonal + e * diagonal, border=system.border + e * border,
            cross=system.cross + (e * cross).to(system.cross.dtype),
        )  # fmt: skip
        return deviations(moved, replace(priors, link=priors.link * (1 + e)))

    less, more = shifted(-step), shifted(step)
    plain = deviations(system, priors)

    def slope(a: Tensor, b: Tensor) -> Tensor:
        return ((a.square() - b.square()) / (2 * step)).clamp_min(0)

    frame_std = slope(less.frames, more.frames).sqrt()
    border_std = slope(less.border, more.border).sqrt()
    covariance = (less.border_covariance - more.border_covariance) / (2 * step)
    return Deviations(
        torch.where(frame_std > 0, frame_std, plain.frames),
        torch.where(border_std > 0, border_std, plain.border),
        covariance,
    )


@dataclass(frozen=True)
class _Scatter:
    diagonal: Tensor
    cross: Tensor
    border: Tensor


def _landmark_scatter(
    model: LandmarkModel,
    planes: Planes,
    state: State,
    loss: LossSettings,
    noise: NoiseModel,
    level: Tensor,
    system: Linearization,
) -> _Scatter:
    """Blocks of sum J^T W S F F^T S W J."""
    dtype, count = model.dtype, planes.xy.shape[2]
    total = len(system.border)
    modes = total - state.cameras.unknowns
    diagonal = torch.zeros_like(system.diagonal)
    cross = torch.zeros(system.cross.shape, dtype=torch.float64)
    border = torch.zeros_like(system.border)
    factor = noise.factor.permute(2, 1, 0).to(dtype)
    few = replace(loss, chunk=FRAMES_AT_ONCE, newton=True)
    for part, turns, posed, seen, residual in chunks(model, planes, state, few):
        information, _ = collapse(seen, residual)
        gaze = gaze_values(model, state.motion.eyes[part])[1]
        block = FrameDerivatives(model, posed, turns.pose_jacobian, gaze, information)
        for c in range(count):
            sigma = planes.precision[part, c].clamp_min(1e-30).rsqrt() * level[c].to(dtype)
            pull = residual.curvature[:, c] * residual.inverse_depth[:, c] * sigma
            gu, gv = pull[:, None] * factor[:, 0], pull[:, None] * factor[:, 1]
            u, v = residual.u[:, c, None], residual.v[:, c, None]
            image = torch.stack([gu, gv, gu * u + gv * v], 2)
            columns = seen.to_gradient[:, None, :, [c, count + c, 2 * count + c]] @ image
            rows, shape = block.pull_back(columns, exact=False)
            diagonal[part] += rows @ rows.mT
            if not total:
                continue
            # Every border unknown's share of each error: identity's, and this camera's own.
            own = torch.zeros(len(rows), rows.shape[2], total, dtype=torch.float64)
            if modes:
                own[..., :modes] = (shape @ model.identity.T).double()
            own[..., modes:] = _on_camera(state.cameras, c, image, residual, posed)
            cross[part] += rows @ own
            flat = own.reshape(-1, total)
            border += flat.T @ flat
    return _Scatter(diagonal, cross, border)


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
