"""Clocks of the cameras, from the part of a take in which the head moves most."""

from __future__ import annotations

from dataclasses import replace
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
    small: shift the cameras and ask again. Where no camera sees the head together with one whose
    place is known nothing is known. Raises as `fit` does.
    """
    options = options or FitOptions()
    within = range(len(observations.time)) if within is None else within
    placed = _placed(cameras)
    picked = busiest_frames(observations, options.joint_frames, within, placed)
    if not _together(observations, picked, placed).any():
        unknown = np.r_[0.0, np.full(len(cameras) - 1, np.nan)]
        return Offsets(np.zeros(len(cameras)), unknown, picked)
    with torch_threads(options.threads), torch.no_grad():
        busiest = observations.take(picked)
        job = new_fit(head, cameras, busiest, options, None)
        start = job.start()
        every = np.arange(len(job.frames))
        state = start.state
        planes = job.planes(every, state.motion, state.cameras, start.sigma_scale)
        found = estimate_offsets(job, state, planes, job.priors(every))
        return replace(found, frames=picked[found.frames])


def _placed(cameras: list[Camera]) -> list[int]:
    """Cameras with extrinsics; where none has any, the first one, which is the world."""
    return [c for c, camera in enumerate(cameras) if camera.T_camera_world is not None] or [0]


def busiest_frames(
    observations: LandmarkSource, count: int, within: range, placed: list[int]
) -> np.ndarray:
    """Indices of `count` consecutive frames in which what two cameras or more see moves most.

    Args:
        placed: cameras of which one must be among the two: what others see tells nothing.
    """
    if len(within) <= count:
        return np.array(within)
    centres = []
    for piece in pieces(len(within), 512):
        part = observations.take(within.start + piece)
        centres.append(np.where(part.valid[..., None], part.xy.mean(axis=2), np.nan))
    speed = np.linalg.norm(np.diff(np.concatenate(centres), axis=0), axis=2)
    counts = np.isfinite(speed).sum(axis=1)
    told = (counts >= 2) & np.isfinite(speed[:, placed]).any(axis=1)
    mean = np.where(told, np.nansum(speed, axis=1) / np.maximum(counts, 1), 0.0)
    rolling = np.convolve(mean, np.ones(count), "valid")
    if not rolling.any():  # nothing to see moving: where most is seen by two
        together = _together(observations, np.array(within), placed).astype(float)
        rolling = np.convolve(together, np.ones(count), "valid")
    return within.start + int(rolling.argmax()) + np.arange(count)


def _together(observations: LandmarkSource, frames: np.ndarray, placed: list[int]) -> np.ndarray:
    """(n,) bool: at least two cameras, one of `placed` among them, see the head in each of some
    frames."""
    valid = np.asarray(observations.valid)[frames]
    return np.asarray((valid.sum(axis=1) >= 2) & valid[:, placed].any(axis=1))
