"""Where an edited film cuts: the head is elsewhere from one frame to the next, and stays there."""

from __future__ import annotations

import numpy as np
import torch

from densefit.fit.initial import score_limit

Tensor = torch.Tensor

CUT_ANGLE = 0.35
"""rad: first poses wander by less."""
CUT_TURNING = 10.0
"""rad/s: no head turns faster."""
CUT_SHIFT = 0.08
"""m."""
CUT_SPEED = 4.0
"""m/s."""


def segments(rotation: Tensor, shift: Tensor, score: Tensor, time: np.ndarray) -> np.ndarray:
    """Number (T,) of the shot that each frame belongs to: it grows by one at each cut.

    A cut is a jump that no head makes and that stays: also from two frames before to one after.
    A single frame with a wrong pose is none.
    """
    count = len(time)
    out = np.zeros(count, int)
    if count < 2:
        return out
    turn, place = rotation.numpy(), shift.numpy()

    seconds = np.maximum(np.diff(time), 1e-3)

    def jump(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        cosine = (np.einsum("tij,tij->t", turn[a], turn[b]) - 1) / 2
        angle = np.arccos(np.clip(cosine, -1, 1))
        moved = np.linalg.norm(place[b] - place[a], axis=1)
        return (angle > CUT_ANGLE + CUT_TURNING * seconds) | (
            moved > CUT_SHIFT + CUT_SPEED * seconds
        )

    now = np.arange(1, count)
    cut = jump(now - 1, now) & jump(np.maximum(now - 2, 0), np.minimum(now + 1, count - 1))
    good = (score <= score_limit(score)).numpy()
    out[1:] = np.cumsum(cut & good[:-1] & good[1:])
    return out
