"""Long takes: motion in overlapping windows, identity (and cameras) polished over all of them.

At fixed identity the frames of a window depend on the rest of the take only through their
neighbours, so that a margin on either side makes windows agree with one solve over everything.
Identity first comes from keyframes. With every frame at its minimum, the energy's derivative by
identity is the plain sum over frames, and its second derivative the sum of the windows' Schur
complements: one Newton step over the whole take without ever holding it, after which the windows
are solved again from where they were.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch

from densefit.fit import tridiagonal
from densefit.fit.camera_prior import camera_prior_term
from densefit.fit.checkpoints import Checkpoints
from densefit.fit.coarse import coarse_frames, spread_motion
from densefit.fit.data import FitData, pieces
from densefit.fit.directions import noticed, square_root
from densefit.fit.dolly import carried
from densefit.fit.inverse import Deviations, deviations
from densefit.fit.landmark_model import LandmarkModel, along
from densefit.fit.linearization import Linearization, LossSettings, Planes, energy, linearize
from densefit.fit.newton_step import explained, held_stiffness, weighed
from densefit.fit.priors import Priors, frame_changes
from densefit.fit.solver import approach, held_unknowns, minimize
from densefit.fit.state import CameraState, Motion, State, move_cameras, move_frames
from densefit.fit.weights import scaled

Tensor = torch.Tensor


@dataclass(frozen=True)
class Window:
    """A piece of a take and the frames about it that are solved with it."""

    low: int
    high: int
    keep: slice
    """Of the solved frames."""

    @property
    def picked(self) -> np.ndarray:
        """Indices of the solved frames."""
        return np.arange(self.low, self.high)

    @property
    def kept(self) -> slice:
        """Of the take's frames: those that this window is for."""
        return slice(self.low + self.keep.start, self.low + self.keep.stop)


@dataclass(frozen=True)
class Reduced:
    """A quadratic model of the take in its border, the frames eliminated."""

    matrix: Tensor
    slope: Tensor
    explained: Tensor
    """X^T A^-1 X (N, N): what the eliminated frames took from the matrix."""


@dataclass(frozen=True)
class Spread:
    """Deviations (t, P) of a window's kept frames."""

    frames: Tensor


@dataclass(frozen=True)
class Solved:
    """A window's kept frames."""

    motion: Motion
    spread: Spread | None
    """Where the motion is all that is unknown: final then."""


@dataclass(frozen=True)
class LongSolution:
    """A take solved in windows."""

    state: State
    spread: Deviations


class Windows:
    """One long take."""

    def __init__(
        self,
        data: FitData,
        sigma_scale: Tensor,
        progress: Callable[[float], None],
        checkpoints: Checkpoints,
    ) -> None:
        self.data, self.sigma_scale, self.progress = data, sigma_scale, progress
        self.checkpoints = checkpoints
        self._turn = -1
        """Number of the pass over the take, part of the names of what is kept."""
        self._explained: Tensor | None = None
        """Of the last `Reduced`."""
        self._spread: Tensor | None = None
        """(T, P) deviations, where they were found with the motion."""
        self.options, self.count = data.options, len(data.frames)
        self.border_dtype = data.model.dtype
        self.seen = int(data.seen.sum())

    @property
    def modes(self) -> int:
        """Identity coefficients that are unknowns."""
        return self.data.model.modes if self.data.with_identity else 0

    @property
    def _loss(self) -> LossSettings:
        options = self.options
        return LossSettings(options.robust_scale, options.correlation, True, options.chunk)

    def _use(self, dtype: torch.dtype) -> None:
        if self.data.model.dtype != dtype:
            self.data.set_model(dtype)

    def movement(self, step: Tensor) -> float:
        """Mean movement (m) of the landmarks by a step of identity."""
        if not len(step):
            return 0.0
        model = self.data.model
        return float((step.to(model.dtype) @ model.identity).reshape(3, -1).norm(dim=0).mean())

    def _moved(self, state: State, step: Tensor) -> State:
        """After a step of identity and this take's cameras; no frame moves by itself."""
        identity, cameras = step[: self.modes], step[self.modes :]
        return State(
            state.identity + identity if self.modes else state.identity,
            carried(self.data.model, state, cameras),
            move_cameras(state.cameras, cameras),
        )

    def _followed(self, state: State, window: Window, step: Tensor) -> State:
        """Some frames after a step of identity and cameras from where they are at their minimum:
        - A^-1 X b, X b being the cross block with one unknown, the step itself."""
        model, before, direction = self.data.model, state, step[self.modes :]
        if self.modes:
            model = along(model, state.identity, step[: self.modes, None])
            before = replace(state, identity=step.new_zeros(1))
            direction = torch.cat([step.new_ones(1), direction])
        system, priors = self._linearized(before, window.picked, model)
        held = held_unknowns(model, before, system.gradient)
        pulled = (system.cross @ direction.to(system.cross.dtype)).double()
        follow = tridiagonal.solve(_factor(system, priors, held), pulled)
        moved = self._moved(state, step)
        return replace(moved, motion=move_frames(self.data.model, moved.motion, -follow))

    def _windows(self) -> Iterator[Window]:
        for core in pieces(self.count, self.options.window):
            low = max(0, int(core[0]) - self.options.overlap)
            high = min(self.count, int(core[-1]) + 1 + self.options.overlap)
            yield Window(low, high, slice(int(core[0]) - low, int(core[-1]) + 1 - low))

    def _planes(self, raw: Planes, motion: Motion, cameras: CameraState) -> Planes:
        planes = self.data.adjusted(raw, cameras, motion.rotation, motion.translation)
        return scaled(planes, self.sigma_scale)

    def motion(
        self, state: State, fresh: bool, start: float, end: float, step: Tensor | None = None
    ) -> State:
        """Solve every window at the state's identity, from the state's motion.

        Args:
            fresh: the motion is no more than first poses. start, end: of the progress.
            step: (N,) of identity and cameras to take first; the frames follow.
        """
        self._use(torch.float64 if self.options.double else torch.float32)
        self._turn += 1
        # What a window leaves goes to one place at once: small results between the large passing
        # tensors of many windows would keep the memory about them from being used again.
        motion, self._spread = state.motion.clone(), None
        for window in self._windows():
            name = f"motion{self._turn}_{window.low:08d}"
            solve = partial(self._window_motion, state, window, fresh, step)
            part = self.checkpoints.keep(name, Solved, solve)
            motion.put(window.kept, part.motion)
            if part.spread is not None:
                self._spread = self._with_rows(self._spread, window, part.spread)
            self.progress(start + (end - start) * (window.high / self.count))
        there = state if step is None else self._moved(state, step)
        return replace(there, motion=motion)

    def _with_rows(self, table: Tensor | None, window: Window, spread: Spread) -> Tensor:
        """The table (T, P) of all frames, made at the first window, with a window's rows in it."""
        rows = spread.frames
        if table is None:
            table = rows.new_empty(self.count, rows.shape[1])
        table[window.kept] = rows
        return table

    def _window_motion(
        self, state: State, window: Window, fresh: bool, step: Tensor | None
    ) -> Solved:
        """Solve one window; the frames that it keeps."""
        first = replace(state, motion=state.motion.take(slice(window.low, window.high)))
        if step is not None:
            first = self._followed(first, window, step)
        data, cameras = self.data, first.cameras.fixed()
        first = replace(first, cameras=cameras)
        raw, priors = data.raw_planes(window.picked), data.priors(window.picked)

        scales: tuple[float, ...] = (self.options.robust_scale,)
        if fresh:
            first = self._coarse(first, raw, window.picked)
            # Identity is known by now: what is left to find, a loose loss alone need not lead to.
            scales = (*self.options.robust_start[-1:], *scales)

        def adjusted(reached: State, _: bool = False) -> tuple[LandmarkModel, Planes, State]:
            return data.model, self._planes(raw, reached.motion, cameras), reached

        planes = adjusted(first)[1]
        told = not self.modes and not state.cameras.unknowns
        solution = minimize(
            data.model, planes, priors, first, self.options, False, scales, on_stage=adjusted,
            with_system=told,
        )  # fmt: skip
        spread = None
        if told:
            spread = Spread(deviations(solution.system, priors).frames[window.keep])
        return Solved(solution.state.motion.take(window.keep), spread)

    def _coarse(self, first: State, raw: Planes, picked: np.ndarray) -> State:
        """A better start than first poses: a few of the frames solved, the others between them."""
        data = self.data
        shot, seen = data.shot[picked], data.seen[picked]
        some = coarse_frames(seen, shot)
        if self.options.independent_frames or not len(some):
            return first
        part = replace(first, motion=first.motion.take(torch.from_numpy(some)))
        planes = Planes(raw.xy[some], raw.precision[some])
        planes = self._planes(planes, part.motion, part.cameras)
        solved = approach(data.model, planes, data.priors(picked[some]), part, self.options)
        motion = spread_motion(first.motion, some, solved.motion, shot)
        return replace(first, motion=motion)

    def _linearized(
        self, part: State, picked: np.ndarray, model: LandmarkModel | None = None
    ) -> tuple[Linearization, Priors]:
        """The quadratic model of some frames with its border, priors of the border left out.

        Args:
            part: state of the picked frames.
        """
        data = self.data
        model = model or data.model
        priors = data.priors(picked)
        bare = replace(priors, identity_weight=0.0, cameras=priors.cameras.narrowed(0.0))
        planes = data.planes(picked, part.motion, part.cameras, self.sigma_scale)
        return linearize(model, planes, bare, part, self._loss, data.with_identity), priors

    def energy(self, state: State) -> float:
        """Of a take by itself, but for the links between pieces."""
        self._use(self.border_dtype)
        data, total = self.data, 0.0
        for core in pieces(self.count, self.options.window):
            part = replace(state, motion=state.motion.take(slice(int(core[0]), int(core[-1]) + 1)))
            planes = data.planes(core, part.motion, part.cameras, self.sigma_scale)
            total += energy(data.model, planes, data.priors(core), part, self._loss)
        known = data.priors(np.zeros(1, int), self.seen).cameras
        return total + float(camera_prior_term(known, state.cameras).cost)

    def reduced(self, state: State) -> Reduced:
        """Matrix and gradient of the energy by the border (identity, this take's cameras), the
        frames eliminated; the prior of identity left out.

        The matrix leaves out the links between pieces, which makes it slightly too small; the
        gradient has them.
        """
        self._use(self.border_dtype)
        name = f"reduced{self._turn}"
        found = self.checkpoints.keep(name, Reduced, partial(self._reduced, state))
        self._explained = found.explained
        return found

    def _reduced(self, state: State) -> Reduced:
        modes = self.modes
        total = modes + state.cameras.unknowns
        matrix = torch.zeros(total, total, dtype=torch.float64)
        slope = torch.zeros(total, dtype=torch.float64)
        taken = torch.zeros_like(matrix)
        for core in pieces(self.count, self.options.window):
            low, high = int(core[0]), int(core[-1]) + 1
            part = replace(state, motion=state.motion.take(slice(low, high)))
            system, priors = self._linearized(part, core)
            system = self._with_neighbours(system, state, low, high)
            held = held_unknowns(self.data.model, part, system.gradient)
            factor = _factor(system, priors, held)
            own = explained(factor, system.cross)
            matrix += system.border - own
            taken += own
            alone = tridiagonal.solve(factor, system.gradient)
            slope += system.border_gradient - weighed(system.cross, alone)
        priors = self.data.priors(np.zeros(1, int), self.seen)
        known = camera_prior_term(priors.cameras, state.cameras)
        matrix[modes:, modes:] += known.block
        slope[modes:] += known.gradient
        return Reduced(matrix, slope, taken)

    def _with_neighbours(
        self, system: Linearization, state: State, low: int, high: int
    ) -> Linearization:
        """Add the pull of the frames before and after the piece on its first and last frame."""
        first, last = max(0, low - 1), min(self.count, high + 1)
        wide = self.data.priors(np.arange(first, last))
        gradient = system.gradient.clone()
        change = frame_changes(self.data.model, state.motion.take(slice(first, last)))
        for edge, frame, sign in ((low - 1, 0, 1.0), (high - 1, -1, -1.0)):
            if not first <= edge < last - 1:
                continue
            weight = wide.link_weights[edge - first]
            gradient[frame] += sign * weight * (change[edge - first] @ wide.link)
        if system.dolly is None:
            return replace(system, gradient=gradient)
        border_gradient = system.border_gradient.clone()
        border_gradient[-1] += ((gradient - system.gradient) * system.dolly.shift).sum()
        return replace(system, gradient=gradient, border_gradient=border_gradient)

    def deviations(self, state: State, covariance: Tensor) -> Tensor:
        """(T, P): of the frames, with what they inherit from identity and cameras.

        Args:
            covariance: (N, N) of the take's border.
        """
        if self._spread is not None:
            return self._spread
        half = square_root(covariance)
        if self._explained is not None:
            half = noticed(half, self._explained, self.count)
        model = self.data.model
        if self.modes and not state.cameras.unknowns:
            # The few directions are the modes then: the others are not differentiated.
            model = along(model, state.identity, half)
            state = replace(state, identity=half.new_zeros(half.shape[1]))
            half = torch.eye(half.shape[1], dtype=half.dtype)
        table: Tensor | None = None
        for window in self._windows():
            name = f"deviations_{window.low:08d}"
            make = partial(self._window_deviations, state, window, half, model)
            table = self._with_rows(table, window, self.checkpoints.keep(name, Spread, make))
            self.progress(0.9 + 0.1 * window.high / self.count)
        assert table is not None
        return table

    def _window_deviations(
        self, state: State, window: Window, half: Tensor, model: LandmarkModel
    ) -> Spread:
        """Args: half: root (N, m) of the border's covariance."""
        part = replace(state, motion=state.motion.take(slice(window.low, window.high)))
        system, priors = self._linearized(part, window.picked, model)
        none = replace(
            system, cross=system.cross[..., :0], border=system.border[:0, :0], dolly=None
        )
        variance = deviations(none, priors).frames.square()
        if len(half):
            half = half.to(system.cross.dtype)
            none_held = torch.zeros_like(system.gradient, dtype=torch.bool)
            factor = _factor(system, priors, none_held)
            bent = tridiagonal.backward(factor, tridiagonal.forward(factor, system.cross @ half))
            if system.dolly is not None:
                bent -= system.dolly.shift[..., None].to(bent.dtype) * half[-1]
            variance = variance + bent.square().sum(2)
        return Spread(variance[window.keep].sqrt())


def _factor(system: Linearization, priors: Priors, held: Tensor) -> tridiagonal.Factor:
    """Factor of the frames' matrix with the held unknowns (T, P) standing still, lightly damped."""
    size = system.diagonal.diagonal(dim1=1, dim2=2)
    stiffness = held_stiffness(system.diagonal, held)
    for damping in (1e-9, 1e-6, 1e-4, 1e-2, 1.0):
        try:
            return tridiagonal.factorize(
                system.diagonal, priors.link, priors.link_weights, damping * size + stiffness
            )
        except tridiagonal.NotPositiveDefinite:
            if damping == 1.0:
                raise
    raise tridiagonal.NotPositiveDefinite
