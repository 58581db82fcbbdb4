"""Clocks of the cameras, from the part of a take in which the head moves most."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from densefit.fit.data import pieces
from densefit.fit.observations import LandmarkSource
from densefit.fit.options import FitOptions
from densefit.fit.sync import Offsets, estimate_offsets
from densefit.fit.takes import new_fit, torch_threads

if TYPE_CHECKING:
    from calibration import Camera
    from densefit.head.model import HeadModel


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
    small: shift the cameras and ask again. Where no two cameras see the head together nothing is
    known. Raises as `fit` does.
    """
    options = options or FitOptions()
    within = range(len(observations.time)) if within is None else within
    picked = busiest_frames(observations, options.joint_frames, within)
    if not _together(observations, picked).any():
        return Offsets(np.zeros(len(cameras)), np.r_[0.0, np.full(len(cameras) - 1, np.nan)])
    with torch_threads(options.threads), torch.no_grad():
        busiest = observations.take(picked)
        job = new_fit(head, cameras, busiest, options, None)
        start = job.start()
        every = np.arange(len(job.frames))
        state = start.state
        planes = job.planes(every, state.motion, state.cameras, start.sigma_scale)
        return estimate_offsets(job, state, planes, job.priors(every))


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
    if not rolling.any():  # nothing to see moving: where most is seen by two
        together = _together(observations, np.array(within)).astype(float)
        rolling = np.convolve(together, np.ones(count), "valid")
    return within.start + int(rolling.argmax()) + np.arange(count)


def _together(observations: LandmarkSource, frames: np.ndarray) -> np.ndarray:
    """(n,) bool: at least two cameras see the head in each of some frames."""
    return np.asarray(observations.valid)[frames].sum(axis=1) >= 2
