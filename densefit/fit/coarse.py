"""A start for every frame from every few frames solved first: heads move smoothly."""

from __future__ import annotations

import numpy as np
import torch

from densefit.fit import so3
from densefit.fit.state import Motion

Tensor = torch.Tensor
STRIDE = 6
"""Frames from one that is solved first to the next; at 25 and 30 frames/s they are still tied to
one another by the temporal term."""
KEYFRAME_STRIDE = 3
"""The same of keyframes, which are few and unlike one another: fewer would tell less of identity
and of the landmarks' sigma."""


def coarse_frames(seen: np.ndarray, shot: np.ndarray, stride: int = STRIDE) -> np.ndarray:
    """Ascending indices of the frames to solve first: every few of those with landmarks, and the
    ends of each shot.

    Args:
        seen: (T,) bool. shot: (T,) number of the shot each frame belongs to.
        stride: of the frames with landmarks.
    """
    index = np.flatnonzero(seen)
    if not len(index):
        return index
    cut = np.flatnonzero(np.diff(shot[index]))
    ends = index[np.unique(np.r_[0, cut, cut + 1, len(index) - 1])]
    return np.union1d(index[::stride], ends)


def spread_motion(first: Motion, picked: np.ndarray, solved: Motion, shot: np.ndarray) -> Motion:
    """All frames from those solved first: what the solve changed is interpolated.

    Args:
        first: (T) first poses. picked: (N,) indices of the frames of `solved`, ascending.
        shot: (T,) as above; nothing is interpolated across a cut.
    """
    frames = np.arange(len(first))
    after = np.searchsorted(picked, frames).clip(0, len(picked) - 1)
    before = (after - (picked[after] > frames)).clip(0)
    before = np.where(shot[picked[before]] == shot, before, after)
    after = np.where(shot[picked[after]] == shot, after, before)
    span = np.maximum(picked[after] - picked[before], 1)
    weight = torch.from_numpy(((frames - picked[before]) / span).clip(0, 1))[:, None]

    def between(values: Tensor) -> Tensor:
        return torch.lerp(values[before], values[after], weight)

    start = first.take(torch.from_numpy(picked))
    turn = so3.log(start.rotation.mT @ solved.rotation)
    return Motion(
        expression=between(solved.expression),
        rotation=first.rotation @ so3.exp(between(turn)),
        translation=first.translation + between(solved.translation - start.translation),
        neck=between(solved.neck),
        eyes=between(solved.eyes),
    )
