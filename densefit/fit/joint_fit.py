"""One fit, step by step: first poses, the joint solve, windows of a long take, the result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch

from densefit.errors import InputError
from densefit.fit import initial
from densefit.fit.cameras import (
    camera_state,
    estimated_cameras,
    place_cameras,
    scale_deviation,
    scale_source,
)
from densefit.fit.checkpoints import Checkpoints
from densefit.fit.coarse import KEYFRAME_STRIDE, STRIDE, coarse_frames, spread_motion
from densefit.fit.data import FitData, frames_to_solve, pieces
from densefit.fit.distance import with_distance_term
from densefit.fit.dolly import alone
from densefit.fit.focal import start_focal
from densefit.fit.inverse import Deviations, deviations
from densefit.fit.keyframes import choose_keyframes, with_frames_of
from densefit.fit.landmark_model import LandmarkModel
from densefit.fit.linearization import LossSettings, Planes, linearize
from densefit.fit.noise import (
    Inflation,
    NoiseModel,
    ScoreCovariance,
    error_level,
    excess,
    noisy_deviations,
    scattered_more,
)
from densefit.fit.polish import solve_together
from densefit.fit.priors import Priors
from densefit.fit.result import FitResult, motion_arrays, residuals_px
from densefit.fit.score import score_covariance
from densefit.fit.shots import segments
from densefit.fit.solver import Solution, held_unknowns, minimize
from densefit.fit.state import CameraState, FrameLayout, Motion, State, rest
from densefit.fit.steps import Begun, Poses, Start, inflated
from densefit.fit.weights import measured_sigma_scale, scaled
from densefit.fit.windows import LongSolution, Windows

if TYPE_CHECKING:
    from calibration import Camera

Tensor = torch.Tensor
START_FRAMES = 240
"""Frames from which unknown cameras get their start."""
_NEAR = 1e-3
"""Relative decrease that ends the solve of a few frames whose solution is only a start."""
SIZE_UNTOLD = 0.028
"""Heads of one shape differ in size by more than the landmarks' noise and the prior let the fit
believe: with extrinsics withheld, scales of 16 rendered people were off by 3.2 % where 1.5 % were
stated (see docs/fit.md)."""
FOCAL_UNTOLD = 0.15
"""Perspective, which is all that tells the focal length of one camera alone, is flattened by what
networks make of faces and by shapes that the prior does not know: focal lengths of rendered people
were off by 14 % and of real ones by 22 % where 8 % were stated (see docs/fit.md)."""
KNOWN_KEYFRAMES = 32
"""Where identity and cameras are known, keyframes only tell the landmarks' sigma."""


class JointFit(FitData):
    """One fit, step by step."""

    def run(self, checkpoints: Checkpoints) -> FitResult:
        """First poses, joint solve over all frames or keyframes, then windows where the take is
        long."""
        start = self.begin(checkpoints)
        if start.whole:
            return self.result(start, LongSolution(start.state, start.spread))
        self.progress(0.4)
        windows = Windows(
            self, start.sigma_scale, lambda done: self.progress(0.4 + 0.6 * done), checkpoints
        )
        solved = solve_together([windows], [start.state], [True])[0]
        return self.result(start, inflated(solved, start.inflation))

    def begin(self, checkpoints: Checkpoints) -> Begun:
        """The joint solve, from `checkpoints` if it is there."""
        begun = checkpoints.keep("begun", Begun, partial(self._begin, checkpoints))
        self.shot, self.placed, self.told = begun.shot, list(begun.placed), begun.told
        self.bias_lengths = begun.bias_lengths
        self.set_model(self.model.dtype)
        return begun

    def _begin(self, checkpoints: Checkpoints) -> Begun:
        start = self.start(checkpoints)
        spread, inflation = self.spread(start)
        return Begun(
            start.state, start.sigma_scale, start.whole, spread, inflation,
            start.solution.energy, start.solution.iterations, self.shot, tuple(self.placed),
            self.told, start.bias_lengths,
        )  # fmt: skip

    def spread(self, start: Start) -> tuple[Deviations, Inflation | None]:
        """Deviations of the jointly solved frames, and by how much those exceed what independent
        errors would give."""
        priors, solution = self.priors(start.picked), start.solution
        plain = deviations(solution.system, priors)
        if self.noise is None:
            return plain, None
        held = held_unknowns(self.model, solution.state, solution.system.gradient)
        score = self.score(start, priors, self.noise)
        noisy = noisy_deviations(solution.system, priors, score, held, plain)
        noisy = scattered_more(noisy, *self.excess(len(noisy.border)))
        return noisy, Inflation.of(noisy, plain)

    def excess(self, border: int) -> tuple[Tensor, Tensor]:
        """Factors (P,) and (N,) of deviations beside the linear formula's (see `noise.excess`)."""
        shapes = self.head.identity_count if self.with_identity else 0
        alone = self.with_identity and self.viewpoint is not None
        cameras = border - (self.model.modes if self.with_identity else 0)
        return excess(FrameLayout(len(self.model.free)), border, shapes, alone, cameras)

    def score(self, start: Start, priors: Priors, noise: NoiseModel) -> ScoreCovariance:
        """Covariance of the energy's slope at the truth, of the jointly solved frames."""
        solution, state = start.solution, start.solution.state
        planes = self.planes(start.picked, state.motion, state.cameras, start.sigma_scale)
        level = self.level
        if level is None:
            world = self.world(state.identity, state.motion)
            residual = measured_sigma_scale(planes, world, state.cameras, bounded=False)
            level = error_level(residual)
        return score_covariance(
            self.model, planes, priors, state, solution.system, self._final_loss, noise, level
        )

    @property
    def _final_loss(self) -> LossSettings:
        options = self.options
        return LossSettings(options.robust_scale, options.correlation, True, options.chunk)

    def _at_rest(self, solution: Solution, picked: np.ndarray, sigma_scale: Tensor) -> Solution:
        """With the system of exactly that state and its planes. Errors that all frames share pull
        against one another in ways that all but cancel: a system of slightly other weights than
        theirs states deviations a hundred times too large."""
        state = solution.state
        planes = self.planes(picked, state.motion, state.cameras, sigma_scale)
        system = linearize(
            self.model, planes, self.priors(picked), state, self._final_loss, self.with_identity
        )
        return replace(solution, last=system)

    def start(self, checkpoints: Checkpoints | None = None) -> Start:
        """Joint solve over all frames, or over keyframes with first poses of all frames."""
        self.end_bias()
        cameras, rotation, shift, score = self._first_poses(checkpoints or Checkpoints())
        self.progress(0.1)
        whole = len(self.frames) <= self.options.joint_frames
        picked = np.arange(len(self.frames))
        if not whole:
            time = self.observations.time[self.frames]
            count = self.options.keyframes
            if not self.with_identity and not cameras.unknowns:
                count = min(count, KNOWN_KEYFRAMES)
            picked = choose_keyframes(rotation.numpy(), time, score.numpy(), count)
            every = np.arange(len(self.frames))
            picked = self._with_frames_of(picked, cameras, every, score.numpy())
        solution, sigma_scale = self._joint(picked, cameras, rotation, shift)
        if self.noise is not None:
            solution = self._at_rest(solution, picked, sigma_scale)
        state, viewpoint = solution.state, self.viewpoint
        if self.with_identity and viewpoint is not None:
            seen = torch.from_numpy(self.seen[picked])
            state, self.told = with_distance_term(
                self.model, solution, self.priors(picked), seen, viewpoint, self.options
            )
        if not whole:
            state = replace(state, motion=rest(rotation, shift))
        return Start(solution, state, sigma_scale, whole, picked, self.bias_lengths)

    def _with_frames_of(
        self, picked: np.ndarray, cameras: CameraState, among: np.ndarray, score: np.ndarray
    ) -> np.ndarray:
        """Rows of `among`, and more of them where a camera has too few among the picked ones."""
        valid = np.asarray(self.observations.valid)[self.frames[among]]
        unplaced = np.flatnonzero(cameras.free_extrinsics).tolist()
        return with_frames_of(picked, valid, unplaced, score)

    def first_state(self) -> tuple[State, Planes, Priors]:
        """Start, landmarks and priors of a joint solve over all frames."""
        cameras, rotation, shift, _ = self._first_poses(Checkpoints())
        every = np.arange(len(self.frames))
        planes = self.adjusted(self.raw_planes(every), cameras, rotation, shift)
        return (
            State(self.first_identity, rest(rotation, shift), cameras),
            planes,
            self.priors(every),
        )

    def _first_poses(self, checkpoints: Checkpoints) -> tuple[CameraState, Tensor, Tensor, Tensor]:
        """Cameras with a start for what is unknown, and a first pose of every frame."""
        cameras, self.placed = camera_state(self.cameras, self.free_focal, self.refine)
        if cameras.unknowns:
            count = len(self.frames)
            spread = np.unique(np.linspace(0, count - 1, min(count, START_FRAMES)).round())
            every, alike = np.arange(count), np.zeros(count)
            sample = self._with_frames_of(spread.astype(int), cameras, every, alike)
            planes = self.raw_planes(sample)
            start = (self.points, self.first_identity, self.options)
            for c in np.flatnonzero(self.unknown_focal):
                if alone(cameras):  # The joint solve itself finds it from anywhere.
                    continue
                cameras = start_focal(
                    self.model, cameras, planes, int(c), *start, self.prior.take([int(c)])
                )
            cameras, self.placed = place_cameras(self.points, cameras, self.placed, planes)
        parts = []
        for picked in pieces(len(self.frames), self.options.window):
            make = partial(self._poses, cameras, picked)
            parts.append(checkpoints.keep(f"poses_{picked[0]:08d}", Poses, make))
        rotation = torch.cat([part.rotation for part in parts])
        shift = torch.cat([part.translation for part in parts])
        score = torch.cat([part.score for part in parts])
        if not bool(torch.isfinite(score).any()):
            names = ", ".join(self.cameras[c].name for c in self.placed)
            raise InputError(
                f"no landmark that {names} shows can be followed back through the lens: check "
                "K and dist in the rig file"
            )
        self.shot = segments(rotation, shift, score, self.observations.time[self.frames])
        return cameras, *initial.fill_poses(rotation, shift, score)

    def _poses(self, cameras: CameraState, picked: np.ndarray) -> Poses:
        raw = self.raw_planes(picked)
        return Poses(*initial.initial_poses(self.points, cameras, raw, self.placed))

    def _joint(
        self, picked: np.ndarray, cameras: CameraState, rotation: Tensor, shift: Tensor
    ) -> tuple[Solution, Tensor]:
        """Identity, cameras and the picked frames together; and the sigma scale of each camera."""
        index = torch.from_numpy(picked)
        state = State(self.first_identity, rest(rotation[index], shift[index]), cameras)
        scale = torch.full(
            (len(self.cameras),), self.options.sigma_scale or 1.0, dtype=torch.float64
        )
        advance = self._count_iterations()
        near = self.near(picked, state, scale, advance)
        if near is None:
            return self._solved(picked, state, scale, advance), scale
        planes = self.planes(picked, near.motion, near.cameras, scale)
        return self.together(planes, self.priors(picked), near, advance), scale

    def near(
        self,
        picked: np.ndarray,
        state: State,
        scale: Tensor,
        advance: Callable[[], None] | None = None,
    ) -> State | None:
        """From a state of the picked frames to one near the minimum: a few of them solved, the
        others put between those, and then all by themselves. None where there are too few, or
        frames have nothing to do with one another.

        Args:
            scale: (C,) of sigma, measured anew (in place), like the lengths of the network's bias.
        """
        some = self._coarse_frames(picked, state.cameras)
        if not len(some):
            return None
        part = replace(state, motion=state.motion.take(torch.from_numpy(some)))
        solved = self._solved(picked[some], part, scale, advance, _NEAR)
        motion = spread_motion(state.motion, some, solved.state.motion, self.shot[picked])
        near = replace(solved.state, motion=motion)
        planes = self.planes(picked, motion, near.cameras, scale)
        fixed = replace(near, cameras=near.cameras.fixed())
        # What frames between solved ones still have to find, a loose loss need not lead to.
        scales = (*self.options.robust_start[-1:], self.options.robust_scale)
        loosely = replace(self.options, tolerance=_NEAR)
        between = minimize(
            self.model, planes, self.priors(picked), fixed, loosely, False, scales,
            with_system=False,
        )  # fmt: skip
        return replace(near, motion=between.state.motion)

    def together(
        self,
        planes: Planes,
        priors: Priors,
        near: State,
        advance: Callable[[], None] | None = None,
    ) -> Solution:
        """Identity, cameras and frames from what `near` makes of them."""
        return minimize(
            self.model, planes, priors, near, self.options, self.with_identity,
            (self.options.robust_scale,), on_iteration=advance, near=True,
        )  # fmt: skip

    def _coarse_frames(self, picked: np.ndarray, cameras: CameraState) -> np.ndarray:
        """Rows of a few of the picked frames; none where frames have nothing to do with one
        another."""
        if self.options.independent_frames:
            return np.zeros(0, int)
        consecutive = np.array_equal(picked, np.arange(len(self.frames)))
        stride = STRIDE if consecutive else KEYFRAME_STRIDE
        some = coarse_frames(self.seen[picked], self.shot[picked], stride)
        some = self._with_frames_of(some, cameras, picked, np.zeros(len(picked)))
        return some if len(picked) > 2 * len(some) else some[:0]

    def _solved(
        self,
        picked: np.ndarray,
        state: State,
        scale: Tensor,
        advance: Callable[[], None] | None,
        tolerance: float | None = None,
    ) -> Solution:
        """Identity, cameras and the picked frames from a state of them; in the last stage the
        network's bias, too.

        scale: (C,) of sigma, measured anew after each stage (in place); tolerance: of the last
        stage, by default that of the options; with another the state is all that is wanted.
        """
        raw = self.raw_planes(picked)

        def rescale(reached: State, last: bool) -> tuple[LandmarkModel, Planes, State]:
            motion = reached.motion
            planes = self.adjusted(raw, reached.cameras, motion.rotation, motion.translation)
            if self.options.sigma_scale is None:
                world = self.world(reached.identity, motion)
                scale[:] = measured_sigma_scale(planes, world, reached.cameras)
            planes = scaled(planes, scale)
            if self.with_bias and last:
                reached = self.begin_bias(reached, planes)
            return self.model, planes, reached

        planes = self.planes(picked, state.motion, state.cameras, scale)
        return minimize(
            self.model, planes, self.priors(picked), state,
            replace(self.options, tolerance=tolerance or self.options.tolerance),
            self.with_identity, on_stage=rescale, on_iteration=advance,
            with_system=tolerance is None,
        )  # fmt: skip

    def _count_iterations(self) -> Callable[[], None]:
        """Progress of a joint solve: nobody knows its iterations, so ever smaller steps."""
        whole = len(self.frames) <= self.options.joint_frames
        low, high, left = 0.1, 0.95 if whole else 0.4, 1.0

        def advance() -> None:
            nonlocal left
            left *= 0.85
            self.progress(high - (high - low) * left)

        return advance

    def result(self, start: Begun, solved: LongSolution) -> FitResult:
        """The arrays of a finished fit."""
        self.progress(1.0)
        state, spread = solved.state, solved.spread
        border_std = spread.border.numpy()
        modes = len(border_std) - state.cameras.unknowns
        camera_std = border_std[modes:]
        if alone(state.cameras) and self.with_identity:
            told = 1 / (np.square(camera_std) + FOCAL_UNTOLD**2)
            camera_std = 1 / np.sqrt(told + float(self.prior.focal_sd[0]) ** -2)
        cameras = estimated_cameras(self.cameras, state.cameras, camera_std, self.placed)
        valid = np.asarray(self.observations.valid)
        scale = scale_source(self.cameras, valid)
        # What only a camera sees whose place was not found tells nothing.
        seen = np.asarray(valid[:, self.placed].any(axis=1))
        shot = np.zeros(len(seen), int)
        shot[self.frames] = self.shot
        posed = frames_to_solve(seen, self.observations.time, self.options, shot)
        told = np.flatnonzero(np.isin(self.frames, posed))
        motion, deviation = state.motion.take(torch.from_numpy(told)), spread.frames[told]
        arrays = motion_arrays(
            motion, deviation.numpy(), self.frames[told], len(seen), self.model.free.numpy()
        )
        return FitResult(
            identity=state.identity[: self.head.identity_count].numpy(),
            **arrays,
            time=np.asarray(self.observations.time, np.float64),
            valid=seen,
            residual_px=self._residuals(state, cameras),
            identity_std=border_std[: self.head.identity_count]
            if modes
            else np.zeros(self.head.identity_count),
            cameras=cameras,
            scale=scale,
            scale_std=0.0
            if scale == "calibrated"
            else self._scale_std(state.cameras, spread, motion, deviation),
            energy=start.energy,
            iterations=start.iterations,
            sigma_scale=start.sigma_scale.numpy(),
        )

    def _residuals(self, state: State, cameras: list[Camera]) -> np.ndarray:
        """(T, C) px of the head's landmarks, NaN where unseen."""
        identity = self.without_bias(state.identity)
        residual = np.full(self.observations.valid.shape, np.nan)
        for picked in pieces(len(self.frames), self.options.window):
            world = self.world(identity, state.motion.take(torch.from_numpy(picked)))
            rows = self.frames[picked]
            points = world.double().mT.numpy()
            residual[rows] = residuals_px(points, cameras, self.observations.take(rows))
        return residual

    def _scale_std(
        self, cameras: CameraState, spread: Deviations, motion: Motion, deviation: Tensor
    ) -> float:
        """Args: motion, deviation (t, P): of the frames that count."""
        modes = len(spread.border_covariance) - cameras.unknowns
        layout = FrameLayout(len(self.model.free))
        covariance = spread.border_covariance.numpy()[modes:, modes:]
        found = scale_deviation(
            cameras, covariance, motion, deviation[:, layout.translation].numpy()
        )
        return float(np.hypot(found, SIZE_UNTOLD)) if self.with_identity else found
