"""The stage: landmarks of all cameras and frames in, one head with its motion out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
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
from densefit.fit.data import FitData, Progress, pieces
from densefit.fit.focal import start_focal
from densefit.fit.keyframes import choose_keyframes
from densefit.fit.linearization import LossSettings, Planes
from densefit.fit.newton_step import Deviations, deviations
from densefit.fit.noise import Inflation, error_level, noise_model, noisy_deviations
from densefit.fit.observations import LandmarkSource
from densefit.fit.options import FitOptions
from densefit.fit.priors import Priors
from densefit.fit.result import FitResult, motion_arrays, residuals_px
from densefit.fit.shots import segments
from densefit.fit.solver import Solution, minimize
from densefit.fit.state import CameraState, FrameLayout, State, rest
from densefit.fit.steps import Begun, Poses, Start, inflated
from densefit.fit.sync import Offsets, estimate_offsets
from densefit.fit.weights import measured_sigma_scale, scaled
from densefit.fit.windows import LongSolution, Windows, solve_together

if TYPE_CHECKING:
    from calibration import Camera
    from densefit.head.model import HeadModel

Tensor = torch.Tensor
START_FRAMES = 240
"""Frames from which unknown cameras get their start."""
KNOWN_KEYFRAMES = 32
"""Where identity and cameras are known, keyframes only tell the landmarks' sigma."""
ROUNDS_APART = 8
"""Newton steps of identity for several takes, whose own identities are some way apart."""


@dataclass(frozen=True)
class TakeLandmarks:
    """One take of several of a person."""

    cameras: list[Camera]
    observations: LandmarkSource
    independent_frames: bool = False
    checkpoints: Checkpoints = field(default_factory=Checkpoints)


def fit(
    head: HeadModel,
    cameras: list[Camera],
    observations: LandmarkSource,
    options: FitOptions | None = None,
    progress: Progress | None = None,
    checkpoints: Checkpoints | None = None,
) -> FitResult:
    """Fit one identity, and expression and pose of every frame, to landmarks of C cameras.

    Args:
        cameras: in the order of the observations. Without K the focal length is estimated; without
            T_camera_world the camera is placed by the head itself (the first one is the world when
            no camera has extrinsics).
        progress: called with the fraction of the work that is done.
        checkpoints: where finished steps are kept; the same fit takes them from there.
    Raises:
        InputError: shapes that do not belong together, or no frame with a head.
    """
    options = options or FitOptions()
    with _threads(options.threads), torch.no_grad():
        job = _job(head, cameras, observations, options, progress)
        return job.run(checkpoints or Checkpoints())


def fit_same_person(
    head: HeadModel,
    takes: list[TakeLandmarks],
    options: FitOptions | None = None,
    progress: Progress | None = None,
) -> list[FitResult]:
    """Fit several takes of one person, each with its own cameras: one identity in all results.

    Every take is first fitted by itself. Raises as `fit` does.
    """
    options = options or FitOptions()
    report = progress or (lambda _: None)
    with _threads(options.threads), torch.no_grad():
        jobs, starts = [], []
        for number, take in enumerate(takes):
            own = replace(options, independent_frames=take.independent_frames)
            jobs.append(_job(head, take.cameras, take.observations, own, None))
            starts.append(jobs[-1].begin(take.checkpoints))
            report(0.5 * (number + 1) / len(takes))
        windows = [
            Windows(job, start.sigma_scale, lambda _: None, take.checkpoints)
            for job, start, take in zip(jobs, starts, takes, strict=True)
        ]
        states, fresh = [s.state for s in starts], [not s.whole for s in starts]
        solved = solve_together(windows, states, fresh, ROUNDS_APART)
        report(1.0)
        return [
            job.result(start, inflated(solution, start.inflation))
            for job, start, solution in zip(jobs, starts, solved, strict=True)
        ]


def fit_offsets(
    head: HeadModel,
    cameras: list[Camera],
    observations: LandmarkSource,
    options: FitOptions | None = None,
    within: range | None = None,
) -> Offsets:
    """How much later than they say each camera's frames were taken, from one excerpt of a take.

    The excerpt is the consecutive frames (`within` some, by default all) in which the landmarks
    move most, at most `options.joint_frames` of them. Offsets of a frame and more come out too
    small: shift the cameras and ask again. Raises as `fit` does.
    """
    options = options or FitOptions()
    within = within or range(len(observations.time))
    with _threads(options.threads), torch.no_grad():
        busiest = observations.take(busiest_frames(observations, options.joint_frames, within))
        job = _job(head, cameras, busiest, options, None)
        start = job.start()
        every = np.arange(len(job.frames))
        motion = start.state.motion
        planes = job.adjusted(
            job.raw_planes(every), start.state.cameras, motion.rotation, motion.translation
        )
        return estimate_offsets(
            job, start.state, scaled(planes, start.sigma_scale), job.priors(every)
        )


def busiest_frames(observations: LandmarkSource, count: int, within: range) -> np.ndarray:
    """Indices of `count` consecutive frames in which what two cameras or more see moves most."""
    if len(within) <= count:
        return np.array(within)
    centres = []
    for piece in pieces(len(within), 512):
        part = observations.take(within.start + piece)
        centres.append(np.where(part.valid[..., None], part.xy.mean(axis=2), np.nan))
    speed = np.linalg.norm(np.diff(np.concatenate(centres), axis=0), axis=2)
    counts = np.isfinite(speed).sum(axis=1)
    mean = np.where(counts >= 2, np.nansum(speed, axis=1) / np.maximum(counts, 1), 0.0)
    rolling = np.convolve(mean, np.ones(count), "valid")
    return within.start + int(rolling.argmax()) + np.arange(count)


def _job(
    head: HeadModel,
    cameras: list[Camera],
    observations: LandmarkSource,
    options: FitOptions,
    progress: Progress | None,
) -> JointFit:
    _check(head, cameras, observations, options)
    frames = frames_to_solve(observations.seen, observations.time, options)
    if not len(frames):
        raise InputError("no camera has a single frame with a head: nothing to fit")
    return JointFit(head, cameras, observations, options, frames, progress or (lambda _: None))


def frames_to_solve(seen: np.ndarray, time: np.ndarray, options: FitOptions) -> np.ndarray:
    """Indices of the frames that get a pose: seen by a camera, or inside a gap that the smoother
    bridges."""
    bridged = seen.copy()
    index = np.flatnonzero(seen)
    if not options.independent_frames and options.temporal_weight > 0:
        for before, after in zip(index[:-1], index[1:], strict=True):
            if time[after] - time[before] <= options.max_gap * (1 + 1e-6):
                bridged[before:after] = True
    return np.flatnonzero(bridged)


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
        self.shot, self.placed = begun.shot, list(begun.placed)
        return begun

    def _begin(self, checkpoints: Checkpoints) -> Begun:
        start = self.start(checkpoints)
        spread, inflation = self.spread(start)
        return Begun(
            start.state, start.sigma_scale, start.whole, spread, inflation,
            start.solution.energy, start.solution.iterations, self.shot, tuple(self.placed),
        )  # fmt: skip

    def spread(self, start: Start) -> tuple[Deviations, Inflation | None]:
        """Deviations of the jointly solved frames, and by how much those exceed what independent
        errors would give."""
        priors, solution = self.priors(start.picked), start.solution
        plain = deviations(solution.system, priors)
        noise = noise_model(len(self.head.landmark_vertices), self.options)
        if noise is None:
            return plain, None
        state, motion = solution.state, solution.state.motion
        planes = self.adjusted(
            self.raw_planes(start.picked), state.cameras, motion.rotation, motion.translation
        )
        planes = scaled(planes, start.sigma_scale)
        world = self.world(state.identity, motion)
        residual = measured_sigma_scale(planes, world, state.cameras, bounded=False)
        level = error_level(residual)
        loss = LossSettings(
            self.options.robust_scale, self.options.correlation, False, self.options.chunk
        )
        noisy = noisy_deviations(
            self.model, planes, priors, state, solution.system, loss, noise, level
        )
        return noisy, Inflation.of(noisy, plain)

    def start(self, checkpoints: Checkpoints | None = None) -> Start:
        """Joint solve over all frames, or over keyframes with first poses of all frames."""
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
        solution, sigma_scale = self._joint(picked, cameras, rotation, shift)
        state = solution.state
        if not whole:
            state = replace(state, motion=rest(rotation, shift))
        return Start(solution, state, sigma_scale, whole, picked)

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
            sample = np.linspace(0, count - 1, min(count, START_FRAMES)).round()
            planes = self.raw_planes(np.unique(sample.astype(int)))
            start = (self.points, self.first_identity, self.options)
            for c in np.flatnonzero(self.unknown_focal):
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
        raw = self.raw_planes(picked)
        given = self.options.sigma_scale
        scale = torch.full((len(self.cameras),), given or 1.0, dtype=torch.float64)

        def rescale(reached: State, _: Planes) -> Planes:
            motion = reached.motion
            planes = self.adjusted(raw, reached.cameras, motion.rotation, motion.translation)
            if given is None:
                world = self.world(reached.identity, motion)
                scale[:] = measured_sigma_scale(planes, world, reached.cameras)
            return scaled(planes, scale)

        planes = self.adjusted(raw, cameras, rotation[index], shift[index])
        solution = minimize(
            self.model, scaled(planes, scale), self.priors(picked), state, self.options,
            self.with_identity, on_stage=rescale, on_iteration=self._count_iterations(),
        )  # fmt: skip
        return solution, scale

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
        modes = self.model.modes if self.with_identity else 0
        border_std, frame_std = spread.border.numpy(), spread.frames.numpy()
        cameras = estimated_cameras(self.cameras, state.cameras, border_std[modes:], self.placed)
        scale = scale_source(self.cameras, np.asarray(np.any(self.observations.valid, axis=0)))
        total = len(self.observations.time)
        residual = np.full(self.observations.valid.shape, np.nan)
        for picked in pieces(len(self.frames), self.options.window):
            world = self.world(state.identity, state.motion.take(torch.from_numpy(picked)))
            rows = self.frames[picked]
            points = world.double().mT.numpy()
            residual[rows] = residuals_px(points, cameras, self.observations.take(rows))
        return FitResult(
            identity=state.identity.numpy(),
            **motion_arrays(state.motion, frame_std, self.frames, total, self.model.free.numpy()),
            time=np.asarray(self.observations.time, np.float64),
            valid=self.observations.seen,
            residual_px=residual,
            identity_std=border_std[:modes] if modes else np.zeros(self.model.modes),
            cameras=cameras,
            scale=scale,
            scale_std=0.0 if scale == "calibrated" else self._scale_std(state, spread),
            energy=start.energy,
            iterations=start.iterations,
            sigma_scale=start.sigma_scale.numpy(),
        )

    def _scale_std(self, state: State, spread: Deviations) -> float:
        modes = self.model.modes if self.with_identity else 0
        layout = FrameLayout(len(self.model.free))
        covariance = spread.border_covariance.numpy()[modes:, modes:]
        positions = spread.frames[:, layout.translation].numpy()
        return scale_deviation(state.cameras, covariance, state.motion, positions)


def _check(
    head: HeadModel, cameras: list[Camera], observations: LandmarkSource, options: FitOptions
) -> None:
    if len(cameras) != observations.valid.shape[1]:
        raise InputError(
            f"landmarks of {observations.valid.shape[1]} cameras, but {len(cameras)} cameras given"
        )
    if observations.landmarks != len(head.landmark_vertices):
        raise InputError(
            f"{observations.landmarks} landmarks per picture, but head model {head.name} has "
            f"{len(head.landmark_vertices)}; predict again with weights made for this head"
        )
    if options.identity is not None and np.shape(options.identity) != (head.identity_count,):
        raise InputError(
            f"identity has shape {np.shape(options.identity)}, but head model {head.name} has "
            f"{head.identity_count} coefficients; give a fit made with this head"
        )


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    if count is not None:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
