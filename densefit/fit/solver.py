"""Levenberg-Marquardt over a robust loss that is tightened in stages."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from densefit.fit.dolly import move_together
from densefit.fit.landmark_model import LandmarkModel
from densefit.fit.linearization import Linearization, LossSettings, Planes, linearize, relinearize
from densefit.fit.newton_step import Box, Step, solve_step
from densefit.fit.options import FitOptions
from densefit.fit.priors import Priors
from densefit.fit.state import FrameLayout, State
from densefit.fit.tridiagonal import NotPositiveDefinite

Tensor = torch.Tensor

STAGE_TOLERANCE = 5e-2
"""Relative decrease that ends a stage before the last: its minimum is only a start for the next."""
NEWTON_BELOW = 2e-3
"""Relative decrease of the last stage below which the loss's true curvature is used. Farther away,
where it is small or negative for many landmarks, it would make steps too long."""
QUIET = 0.2
"""Energy that a frame's step promises below which the frame is not looked at again: half a squared
posterior deviation is 0.5, and one more step would be about a seventh of this one."""
MANY = 0.75
"""Share of the frames beyond which all of them are evaluated."""
FELT = 0.03
"""Damping below which a frame's step hardly changes: its own unknowns are well determined. What
refuses a step near the minimum are single frames, too."""
PASSES, PASSES_ALONE = 3, 10
"""Of a step's active set, at most; frames alone take hardly any time for one, and what stands at a
bound by a wrong guess is clamped, so that the step is none the model knows of."""
SHY, MOST_SHY = 0.3, 10.0
"""Damping of a frame whose cost rose in a step that was refused, ten times as much if it does so
again; from where on all frames are damped with it."""
DAMPING, NEAR_DAMPING = 1e-3, 1e-6
"""Of a stage's first step, and where it begins near the minimum: directions that little is known of
(the size of a rig that only the head tells, say) are made of unknowns with large curvatures, and
damping by those would end the stage before it has gone along them."""
MAX_DAMPING = 1e7
MAX_FOCAL_STEP = 0.3
"""Largest change of log focal length in one step."""


@dataclass(frozen=True)
class Solution:
    """Where the solver ended."""

    state: State
    last: Linearization | None
    """At that state, or one negligible step before it."""
    energy: float
    """Of the last stage; NaN without `last`."""
    iterations: int
    history: tuple[tuple[float, float], ...]
    """(c, energy) after each accepted step."""

    @property
    def system(self) -> Linearization:
        """`last`, where it was asked for."""
        assert self.last is not None
        return self.last


def minimize(
    model: LandmarkModel,
    planes: Planes,
    priors: Priors,
    state: State,
    options: FitOptions,
    with_identity: bool,
    scales: tuple[float, ...] | None = None,
    on_stage: Callable[[State, bool], tuple[LandmarkModel, Planes, State]] | None = None,
    on_iteration: Callable[[], None] | None = None,
    near: bool = False,
    with_system: bool = True,
) -> Solution:
    """Minimise the energy from a state.

    Args:
        near: it is near the minimum; the loss's true curvature is used from the start.
        with_system: where the state is all that is wanted, as a start of something else, its system
            may be left out, and so may the end of the way to the minimum.
        scales: robust scales of the stages, by default those of the options.
        on_stage: called between stages with the state and whether the last one is next; returns
            what that stage starts with: other precisions, and a model of more modes.
    """
    scales = scales if scales is not None else (*options.robust_start, options.robust_scale)
    history: list[tuple[float, float]] = []
    iterations, active = 0, None
    for number, scale in enumerate(scales):
        last = number + 1 == len(scales)
        exact = last and with_system
        # Frames alone were solved or went through a stage before: near enough for that, too.
        curved = last and (near or not (with_identity or state.cameras.unknowns))
        loss = LossSettings(scale, options.correlation, curved, options.chunk)
        tolerance = options.tolerance if last else STAGE_TOLERANCE
        soft = softened(priors, scale / scales[-1])
        run = _Stage(model, planes, soft, loss, with_identity, tolerance, exact, active, near)
        state, count = run.minimize(state, options.max_iterations, history, on_iteration)
        active = run.active
        iterations += count
        if on_stage is not None and not last:
            model, planes, state = on_stage(state, number + 2 == len(scales))
    if with_system and (run.system is None or not run.curved):
        final = replace(run.loss, newton=True)
        run.system = linearize(model, planes, priors, state, final, with_identity)
        run.promised = 0.0
    energy = math.nan if run.system is None else run.system.cost - run.promised
    return Solution(state, run.system, energy, iterations, tuple(history))


def softened(priors: Priors, times: float) -> Priors:
    """Priors with contacts that give way in a loose stage, as outliers do: lips that the first long
    steps push through teeth would stop those, as no quadratic model sees it coming."""
    return replace(priors, contact_sd=priors.contact_sd * times)


def approach(
    model: LandmarkModel, planes: Planes, priors: Priors, state: State, options: FitOptions
) -> State:
    """Near the minimum at known identity and cameras, as a start for more frames."""
    active = None
    for scale in (*options.robust_start[-1:], options.robust_scale):
        loss = LossSettings(scale, options.correlation, False, options.chunk)
        soft = softened(priors, scale / options.robust_scale)
        run = _Stage(model, planes, soft, loss, False, STAGE_TOLERANCE, False, active)
        state, _ = run.minimize(state, options.max_iterations, [], None)
        active = run.active
    return state


@dataclass
class _Stage:
    model: LandmarkModel
    planes: Planes
    priors: Priors
    loss: LossSettings
    with_identity: bool
    tolerance: float
    last: bool
    active: Tensor | None
    near: bool = False
    """It begins near the minimum."""
    system: Linearization | None = None
    """At the state reached, if that was evaluated."""
    curved: bool = False
    """`system` has the loss's true curvature."""
    promised: float = 0.0
    """Decrease of the energy by a last step that was taken unseen."""

    def minimize(
        self,
        state: State,
        limit: int,
        history: list[tuple[float, float]],
        on_iteration: Callable[[], None] | None,
    ) -> tuple[State, int]:
        """The state reached and the number of steps. Each trial is linearized at once: nearly all
        are taken."""
        damping = NEAR_DAMPING if self.near else DAMPING
        system = self.system = self._linearize(state)
        shy = torch.zeros_like(system.terms.cost)
        for count in range(1, limit + 1):
            if on_iteration is not None:
                on_iteration()
            trial = self._trial(state, system, damping, shy)
            if trial is None:
                damping *= 10
                if damping > MAX_DAMPING:
                    return state, count
                continue
            moved, step = trial
            expected = expected_gain(system, step) / max(abs(system.cost), 1e-300)
            rows = self._moving(system, step)
            settled = expected < self.tolerance if rows is None else not len(rows)
            if settled and (self.loss.newton or not self.last):
                # A small step need not be weighed: it is all but the model's own minimum.
                self.system, self.active = system if self.last else None, step.active
                self.promised = expected * abs(system.cost)
                return moved, count
            if self.last and expected < NEWTON_BELOW:
                self.loss = replace(self.loss, newton=True)
            there = self._follow(system, moved, step, rows)
            gain = (system.cost - there.cost) / max(abs(system.cost), 1e-300)
            if not gain >= -1e-10:
                # Promised next to nothing and lost next to nothing: the end of what float32 tells.
                ended = abs(gain) < self.tolerance and expected < 10 * self.tolerance
                if ended or abs(gain) < 1e-8 or damping > MAX_DAMPING:
                    return state, count
                blamed = (there.terms.cost - system.terms.cost > QUIET) & (shy < MOST_SHY)
                if blamed.any():
                    shy = torch.where(blamed, (10 * shy).clamp_min(SHY), shy)
                else:
                    felt = self.near or rows is not None
                    damping = max(10 * damping, FELT if felt else 0.0)
                continue
            state, system, self.system, self.active = moved, there, there, step.active
            self.curved = self.loss.newton
            history.append((self.loss.scale, there.cost))
            damping, shy = max(damping / 5, 1e-9), shy / 5
            if gain < self.tolerance:
                return state, count
        return state, limit

    def _linearize(self, state: State) -> Linearization:
        self.curved = self.loss.newton
        return linearize(self.model, self.planes, self.priors, state, self.loss, self.with_identity)

    def _moving(self, system: Linearization, step: Step) -> Tensor | None:
        """(n,) frames whose step is worth another; None where they share unknowns."""
        if len(step.border):
            return None
        bend = (system.diagonal @ step.frames[..., None])[..., 0]
        promised = 0.5 * (step.frames * bend).sum(1)
        share = self.tolerance * abs(system.cost) / len(promised)
        return torch.nonzero(promised > max(share, QUIET)).flatten()

    def _follow(
        self, system: Linearization, moved: State, step: Step, rows: Tensor | None
    ) -> Linearization:
        """The quadratic model after a step: of all frames, or of `rows` and the rest followed."""
        if rows is None or len(rows) > MANY * len(step.frames):
            return self._linearize(moved)
        return relinearize(
            self.model, self.planes, self.priors, moved, self.loss, system, step.frames, rows
        )

    def _trial(
        self, state: State, system: Linearization, damping: float, shy: Tensor
    ) -> tuple[State, Step] | None:
        box, frames = step_box(self.model, state), shy.clamp_min(damping)
        passes = PASSES if len(system.border) else PASSES_ALONE
        try:
            step = solve_step(
                system, self.priors, box, damping, self.active, passes, frame_damping=frames
            )
        except NotPositiveDefinite:
            return None
        modes = self.model.modes if self.with_identity else 0
        cameras = step.border[modes:]
        for _, focal in state.cameras.columns():
            if focal is not None and abs(float(cameras[focal])) > MAX_FOCAL_STEP:
                return None
        identity = step.border[:modes] if modes else None
        return move_together(self.model, state, step.frames, identity, cameras), step


def expected_gain(system: Linearization, step: Step) -> float:
    """Decrease of the energy that the step's own quadratic model promises; of an undamped step
    inside its bounds exactly that, else a little less."""
    slope = (system.gradient * step.frames).sum() + system.border_gradient @ step.border
    return -0.5 * float(slope)


def step_box(model: LandmarkModel, state: State) -> Box:
    """Bounds of the step that keep the expressions in [0, 1]."""
    layout = FrameLayout(len(model.free))
    frames = len(state.motion)
    low = torch.full(
        (frames, layout.size), -math.inf, dtype=torch.float64, device=state.identity.device
    )
    high = torch.full_like(low, math.inf)
    values = state.motion.expression[:, model.free]
    low[:, layout.expression] = -values
    high[:, layout.expression] = 1 - values
    return Box(low, high)


def held_unknowns(model: LandmarkModel, state: State, gradient: Tensor) -> Tensor:
    """(T, P) bool: unknowns that stand at a bound and are pulled beyond it.

    Args:
        gradient: (T, P) of the energy at the state.
    """
    box = step_box(model, state)
    return (box.low >= 0) & (gradient > 0) | (box.high <= 0) & (gradient < 0)
