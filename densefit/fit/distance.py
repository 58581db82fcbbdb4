"""The distance of a head that one camera sees: what deformations cost shall not tell it.

One camera knows a head's distance only from its size. A nearer head needs smaller deformations to
look the same, which the priors like: where size and shape are most probable together, takes drawn
from the priors are too near, by two to three hundredths. By the envelope theorem the slope of the
energy, shape at its best, by a head's log distance over focal length holds

    n = sum over shape parameters of (1 - p v) * p b^2,

p a parameter's prior precision, b its value and v its posterior variance: what it costs, as far as
landmarks tell it. That is how the priors pull the head nearer, and

    E_distance = - n log(d / f)

for each frame takes it out; identity's part is shared among the frames. Were people spread as the
priors say, n would be the number of parameters that landmarks tell, which is also what integrating
them out adds (Laplace's approximation: their information goes with 1/d^2); people are spread less,
and with b^2 + v instead of b^2, which is that number on takes drawn from the priors, 16 rendered
people were 1.6 % too large instead of 0.2.
"""

from __future__ import annotations

import torch

from densefit.fit.dolly import move_together
from densefit.fit.inverse import Inverse
from densefit.fit.landmark_model import LandmarkModel
from densefit.fit.newton_step import held_stiffness
from densefit.fit.noise import HOLD
from densefit.fit.options import FitOptions
from densefit.fit.priors import Outward, Priors, Told, motion_prior_diagonal, outward_term
from densefit.fit.solver import Solution, held_unknowns
from densefit.fit.state import FrameLayout, State

Tensor = torch.Tensor


def with_distance_term(
    model: LandmarkModel,
    solution: Solution,
    priors: Priors,
    seen: Tensor,
    viewpoint: Tensor,
    options: FitOptions,
) -> tuple[State, Told]:
    """From a minimum of the energy without E_distance to that with it, and the parts of n.

    One step of Newton's: what it changes is small, and its curvature next to nothing.

    Args:
        seen: (T,) bool, frames with landmarks. viewpoint: (3,) the camera's place in the world.
    """
    system, state = solution.system, solution.state
    modes = len(system.border) - state.cameras.unknowns
    layout = FrameLayout(len(model.free))
    held = held_unknowns(model, state, system.gradient)
    stiffness = held_stiffness(system.diagonal, held, HOLD)
    inverse = Inverse.of(system, priors, stiffness)
    spread = inverse.deviations()
    precision = motion_prior_diagonal(priors, len(held)).diagonal(dim1=1, dim2=2)
    known = (1 - precision * spread.frames.square()).clamp(0, 1) * ~held
    psi, some = state.motion.expression[:, model.free], layout.expression
    cost = psi * (psi @ priors.frame[some, some] + priors.rest[some])
    share = (1 - priors.identity_weight * spread.border[:modes].square()).clamp(0, 1)
    told = Told(
        float((known[:, some] * cost)[seen].sum(1).mean()),
        float(options.identity_weight * (share * state.identity[:modes].square()).sum()),
    )
    n = seen * told.share(int(seen.sum()), options)
    pull = system.gradient.new_zeros(*held.shape, 1)
    pull[:, layout.translation, 0] = -outward_term(Outward(n, viewpoint), state.motion)[1]
    border = system.gradient.new_zeros(len(system.border), 1)
    for _, focal in state.cameras.columns():
        if focal is not None:
            border[modes + focal] = -n.sum()
    if system.dolly is not None:
        border[-1] += (pull[..., 0] * system.dolly.shift).sum()
    frames, across = inverse.columns(pull, border)
    moved = move_together(
        model, state, frames[..., 0], across[:modes, 0] if modes else None, across[modes:, 0]
    )
    return moved, told
