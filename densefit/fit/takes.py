"""The stage: landmarks of all cameras and frames in, one head with its motion out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch

from densefit.errors import InputError
from densefit.fit.checkpoints import Checkpoints
from densefit.fit.data import Progress, frames_to_solve
from densefit.fit.joint_fit import JointFit
from densefit.fit.observations import LandmarkSource
from densefit.fit.options import FitOptions
from densefit.fit.polish import solve_together
from densefit.fit.result import FitResult
from densefit.fit.steps import inflated
from densefit.fit.windows import Windows

if TYPE_CHECKING:
    from calibration import Camera
    from densefit.head.model import HeadModel

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
        InputError: shapes that do not belong together, or no frame with a head in a camera whose
            place is known.
    """
    options = options or FitOptions()
    with torch_threads(options.threads), torch.no_grad():
        job = new_fit(head, cameras, observations, options, progress)
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
    with torch_threads(options.threads), torch.no_grad():
        jobs, starts = [], []
        for number, take in enumerate(takes):
            own = replace(options, independent_frames=take.independent_frames)
            jobs.append(new_fit(head, take.cameras, take.observations, own, None))
            starts.append(jobs[-1].begin(take.checkpoints))
            told = jobs[-1].told
            if told is not None:  # one identity: told by all takes, counted once
                jobs[-1].told = replace(told, identity=told.identity / len(takes))
            report(0.5 * (number + 1) / len(takes))
        done = [0.0] * len(takes)

        def solving(number: int, share: float) -> None:
            done[number] = share
            report(0.5 + 0.5 * sum(done) / len(done))

        windows = [
            Windows(job, start.sigma_scale, partial(solving, number), take.checkpoints)
            for number, (job, start, take) in enumerate(zip(jobs, starts, takes, strict=True))
        ]
        states, fresh = [s.state for s in starts], [not s.whole for s in starts]
        solved = solve_together(windows, states, fresh, ROUNDS_APART)
        report(1.0)
        return [
            job.result(start, inflated(solution, start.inflation))
            for job, start, solution in zip(jobs, starts, solved, strict=True)
        ]


def new_fit(
    head: HeadModel,
    cameras: list[Camera],
    observations: LandmarkSource,
    options: FitOptions,
    progress: Progress | None,
) -> JointFit:
    """A fit that can begin. Raises as `fit` does."""
    _check(head, cameras, observations, options)
    frames = frames_to_solve(observations.seen, observations.time, options)
    if not len(frames):
        raise InputError("no camera has a single frame with a head: nothing to fit")
    placed = [camera.T_camera_world is not None for camera in cameras]
    if not any(placed):
        placed[0] = True  # the first one is the world
    if not np.asarray(observations.valid)[:, placed].any():
        names = ", ".join(c.name for c, is_placed in zip(cameras, placed, strict=True) if is_placed)
        raise InputError(
            f"no frame has a head in {names}, from which the other cameras would be placed: leave "
            "it out, or give extrinsics (T_camera_world) of a camera that sees the head"
        )
    return JointFit(head, cameras, observations, options, frames, progress or (lambda _: None))


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
def torch_threads(count: int | None) -> Iterator[None]:
    """With so many threads of torch, None: as they are."""
    before = torch.get_num_threads()
    if count is not None:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
