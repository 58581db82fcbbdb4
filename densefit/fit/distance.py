"""The distance of a head that one camera sees: the mean of what is possible, not its maximum.

One camera knows a head's distance only from its size. A nearer head needs smaller deformations to
look the same, which the priors like: where size and shape are most probable together, the head is
too near, by a hundredth in the mean of several moments and two or three of one. Shape integrated
out (Laplace's approximation) leaves

    E(d) = min over shape of E + 1/2 log |H_shape|.

The landmarks' part of H_shape goes with 1/d^2 (and with the square of the focal length f), so a
frame's logarithm adds

    E_distance = - n log(d / f),    n = sum over shape parameters of (1 - p v),

v a parameter's posterior variance, p its prior's precision: n counts the parameters that landmarks
tell. Identity's are shared among the frames.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from densefit.fit.landmark_model import LandmarkModel
from densefit.fit.newton_step import deviations, held_stiffness, solve_many
from densefit.fit.noise import HOLD
from densefit.fit.options import FitOptions
from densefit.fit.priors import Outward, Priors, Told, motion_prior_diagonal, outward_term
from densefit.fit.solver import Solution, held_unknowns
from densefit.fit.state import FrameLayout, move

Tensor = torch.Tensor


def at_mean_distance(
    model: LandmarkModel,
    solution: Solution,
    priors: Priors,
    seen: Tensor,
    viewpoint: Tensor,
    options: FitOptions,
) -> tuple[Solution, Told]:
    """A minimum of the energy without E_distance, moved to that with it, and n.

    One step of Newton's: what it changes is small, and its curvature next to nothing.

    Args:
        seen: (T,) bool, frames with landmarks. viewpoint: (3,) the camera's place in the world.
    """
    system, state = solution.system, solution.state
    modes = len(system.border) - state.cameras.unknowns
    layout = FrameLayout(len(model.free))
    held = held_unknowns(model, state, system.gradient)
    stiffness = held_stiffness(system.diagonal, held, HOLD)
    stiff = replace(system, diagonal=system.diagonal + torch.diag_embed(stiffness))
    spread = deviations(stiff, priors)
    precision = motion_prior_diagonal(priors, len(held)).diagonal(dim1=1, dim2=2)
    own = (1 - precision * spread.frames.square()).clamp(0, 1) * ~held
    identity = (1 - priors.identity_weight * spread.border[:modes].square()).clamp(0, 1)
    told = Told(float(own[seen][:, layout.expression].sum(1).mean()), float(identity.sum()))
    share = seen * told.share(int(seen.sum()), options)
    pull = torch.zeros(*held.shape, 1, dtype=torch.float64)
    pull[:, layout.translation, 0] = -outward_term(Outward(share, viewpoint), state.motion)[1]
    border = torch.zeros(len(system.border), 1, dtype=torch.float64)
    for _, focal in state.cameras.columns():
        if focal is not None:
            border[modes + focal] = -share.sum()
    frames, across = solve_many(system, priors, stiffness, pull, border)
    moved = move(
        model, state, frames[..., 0], across[:modes, 0] if modes else None, across[modes:, 0]
    )
    return replace(solution, state=moved), told
