"""Time offsets of the cameras, from the motion of the landmarks.

A camera whose frames were taken a little later than its clock says sees the head where it will be:
x = project(X + offset dX/dt). The offsets (the first camera's is zero) are a few more unknowns
beside identity; with all frames eliminated they follow from one Newton step, with deviations.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from densefit.fit.data import FitData
from densefit.fit.frame_derivatives import FrameDerivatives
from densefit.fit.geometry import unit_columns
from densefit.fit.inverse import deviations
from densefit.fit.landmark_model import gaze_values
from densefit.fit.landmark_term import coefficients, collapse, projection
from densefit.fit.linearization import Linearization, LossSettings, Planes, chunks, linearize
from densefit.fit.newton_step import solve_step
from densefit.fit.priors import Priors
from densefit.fit.solver import step_box
from densefit.fit.state import State

Tensor = torch.Tensor

UNKNOWN = 0.5
"""s: an offset that is less certain than this is not known; its prior is N(0, 1 s)."""


@dataclass(frozen=True)
class Offsets:
    """Of C cameras against the first one."""

    seconds: np.ndarray
    """(C,): how much later than they say the frames were taken; zero of the first camera."""
    std: np.ndarray
    """(C,); zero of the first camera, nan of one whose landmarks do not move."""
    frames: np.ndarray
    """(n,) the frames they were measured in."""


def velocities(world: Tensor, time: Tensor, links: Tensor) -> Tensor:
    """dX/dt (T, 3, L) of landmarks (T, 3, L) by differences to the linked neighbours.

    Args:
        links: (T - 1,) zero where neighbours do not belong to one movement.
    """
    step = (world[1:] - world[:-1]).double()
    linked = (links > 0).double()[:, None, None]
    dt = (time[1:] - time[:-1]).double()[:, None, None] * linked
    moved, passed = (
        torch.zeros_like(world, dtype=torch.float64),
        torch.zeros(len(time), 1, 1).double(),
    )
    moved[1:] += step * linked
    moved[:-1] += step * linked
    passed[1:] += dt
    passed[:-1] += dt
    return torch.where(passed > 0, moved / passed.clamp_min(1e-9), 0.0).to(world.dtype)


def estimate_offsets(data: FitData, state: State, planes: Planes, priors: Priors) -> Offsets:
    """Offsets of all cameras from a joint solution of consecutive frames.

    Args:
        planes: with the precisions of the solution.
    """
    model, options, count = data.model, data.options, len(data.cameras)
    fixed = replace(state, cameras=state.cameras.fixed())
    loss = LossSettings(options.robust_scale, options.correlation, False, options.chunk)
    system = linearize(model, planes, priors, fixed, loss, data.with_identity)
    time = torch.from_numpy(data.observations.time[data.frames])
    velocity = velocities(data.world(state.identity, state.motion), time, priors.link_weights)
    system = _with_offsets(data, system, fixed, planes, loss, velocity)
    box = step_box(model, fixed)
    step = solve_step(system, priors, box, 1e-9, None, passes=6)
    spread = deviations(system, priors).border[-(count - 1) :].numpy()
    seconds = step.border[-(count - 1) :].numpy()
    known = np.isfinite(spread) & (spread < UNKNOWN)
    return Offsets(
        np.r_[0.0, np.where(known, seconds, 0.0)],
        np.r_[0.0, np.where(known, spread, np.nan)],
        data.frames,
    )


def _with_offsets(
    data: FitData,
    system: Linearization,
    state: State,
    planes: Planes,
    loss: LossSettings,
    velocity: Tensor,
) -> Linearization:
    """The system with one more border unknown for every camera but the first."""
    model, cameras = data.model, range(1, len(data.cameras))
    modes, extra = len(system.border), len(cameras)
    border = torch.zeros(modes + extra, modes + extra, dtype=torch.float64)
    border[:modes, :modes] = system.border
    border[modes:, modes:] += torch.eye(extra, dtype=torch.float64)
    gradient = torch.cat([system.border_gradient, torch.zeros(extra, dtype=torch.float64)])
    cross = []
    single = [projection(state.cameras.matrices[[c]], model.dtype) for c in cameras]
    for part, turns, posed, view, residual in chunks(model, planes, state, loss):
        information, pull = coefficients(residual)
        moving = velocity[part]
        columns = []
        for n, c in enumerate(cameras):
            units = unit_columns(single[n].to_information @ information[:, :, c])
            column = (units * moving[:, :, None]).sum(1)
            force = single[n].to_gradient @ pull[:, :, c]
            gradient[modes + n] += (force * moving).sum(dtype=torch.float64)
            border[modes + n, modes + n] += (column * moving).sum(dtype=torch.float64)
            columns.append(posed.head_rotation.mT @ column)
        whole, _ = collapse(view, residual)
        gaze = gaze_values(model, state.motion.eyes[part])[1]
        block = FrameDerivatives(model, posed, turns.pose_jacobian, gaze, whole)
        products, shape = block.pull_back(torch.stack(columns, 1), exact=False)
        cross.append(products.to(system.cross.dtype))
        if modes:
            coupling = (shape.sum(0) @ model.identity.T).double().T
            border[:modes, modes:] += coupling
            border[modes:, :modes] += coupling.T
    return replace(
        system, border=border, border_gradient=gradient,
        cross=torch.cat([system.cross, torch.cat(cross)], 2),
    )  # fmt: skip
