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

    A cut is a jump from one good first pose to the next, whatever lies between, that no head makes
    in that time and that stays: also from two good ones before to one after. A single frame with a
    wrong pose is none.

    Args:
        rotation: (T, 3, 3). shift: (T, 3) metres. score: (T,) badness of these first poses, nan
            where unseen. time: (T,) s.
    """
    out = np.zeros(len(time), int)
    good = np.flatnonzero((score <= score_limit(score)).numpy())
    if len(good) < 2:
        return out
    poses = rotation.numpy(), shift.numpy()
    before, after = good[:-1], good[1:]
    seconds = time[after] - time[before]
    cut = _jump(*poses, before, after, seconds)
    cut &= _jump(*poses, np.r_[good[0], before[:-1]], np.r_[after[1:], good[-1]], seconds)
    seen = torch.isfinite(score).numpy()
    for a, b in zip(before[cut], after[cut], strict=True):
        # Poor frames between are the later shot's from where on their poses say so.
        poor = a + 1 + np.flatnonzero(seen[a + 1 : b])
        later = _jump(*poses, a, poor, time[poor] - time[a])
        later &= ~_jump(*poses, poor, b, time[b] - time[poor])
        out[poor[later.argmax()] if later.any() else b] = 1
    return np.cumsum(out)


def _jump(
    turn: np.ndarray,
    place: np.ndarray,
    a: np.ndarray,
    b: np.ndarray,
    seconds: np.ndarray,
) -> np.ndarray:
    """(n,) bool: no head gets from the poses of frames `a` to those of frames `b` in that time.

    Args:
        turn: (T, 3, 3). place: (T, 3) metres. a, b: (n,), or one frame for all. seconds: (n,).
    """
    seconds = np.maximum(seconds, 1e-3)
    cosine = ((turn[a] * turn[b]).sum(axis=(-2, -1)) - 1) / 2
    angle = np.arccos(np.clip(cosine, -1, 1))
    moved = np.linalg.norm(place[b] - place[a], axis=-1)
    return np.asarray(
        (angle > CUT_ANGLE + CUT_TURNING * seconds) | (moved > CUT_SHIFT + CUT_SPEED * seconds)
    )
