"""The take at another frame rate: the motion between two recorded frames, for `--fps`.

Expressions, places and deviations go over linearly, rotations along the shortest arc (slerp). The
take keeps its timing: an instant that is a recorded frame's shows just that frame.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from densefit.fit_file import FitFile

ON_A_FRAME = 1e-3
"""Share of the way to the next frame below which an instant is a recorded frame's own."""
LINEAR = ("expression", "translation", "expression_std", "rotation_std", "translation_std",
          "joints_std")  # fmt: skip


def resample(fit: FitFile, frames: np.ndarray, fps: float) -> FitFile:
    """The take from the first to the last of `frames` with `fps` frames a second.

    An instant between two frames of which one has no head has none either; `valid` and
    `residual_px` are those of the nearest frame.

    Args:
        frames: (N,) recorded frames in order, at least one.
    Returns:
        A fit whose frames are the instants; `time` stays on the master clock.
    """
    own = fit.time[frames]
    count = 1 + int(np.floor((own[-1] - own[0]) * fps + ON_A_FRAME))
    instants = own[0] + np.arange(count) / fps
    place = np.searchsorted(own, instants, side="right") - 1
    before = np.clip(place, 0, max(0, len(own) - 2))
    after = np.minimum(before + 1, len(own) - 1)
    step = own[after] - own[before]
    share = np.divide(instants - own[before], step, out=np.zeros(count), where=step > 0)
    share = np.clip(share, 0.0, 1.0)
    # Exactly there, or a neighbour without a head (NaN) would take the head away.
    before = np.where(share > 1 - ON_A_FRAME, after, before)
    after = np.where(share < ON_A_FRAME, before, after)
    share = np.where(before == after, 0.0, share)
    first, second = frames[before], frames[after]
    nearest = np.where(share < 0.5, first, second)
    changed: dict[str, Any] = {
        name: _linear(getattr(fit, name), first, second, share) for name in LINEAR
    }
    rotation = _turns_of(
        _slerp(fit.rotation, first, second, share), _linear(fit.rotation, first, second, share)
    )
    return replace(
        fit,
        **changed,
        rotation=rotation,
        joints=_slerp(fit.joints, first, second, share),
        time=instants,
        valid=fit.valid[nearest] & np.isfinite(rotation[:, 0]),
        residual_px=fit.residual_px[nearest],
        meta={**fit.meta, "fps": fps},
    )


def nearest_frames(fit: FitFile, frames: np.ndarray, instants: np.ndarray) -> np.ndarray:
    """(M,) those of `frames` that were recorded nearest to `instants` (M,), s, master clock."""
    own = fit.time[frames]
    middles = (own[1:] + own[:-1]) / 2
    return frames[np.searchsorted(middles, instants)]


def _linear(
    values: np.ndarray, first: np.ndarray, second: np.ndarray, share: np.ndarray
) -> np.ndarray:
    weight = share.reshape(-1, *[1] * (values.ndim - 1))
    return (1 - weight) * values[first] + weight * values[second]


def _slerp(
    axis_angle: np.ndarray, first: np.ndarray, second: np.ndarray, share: np.ndarray
) -> np.ndarray:
    """Axis-angle (T, ..., 3) between frames; angles in [0, pi], NaN where one of the two is."""
    from scipy.spatial.transform import Rotation

    shape = (len(first), *axis_angle.shape[1:])
    weight = np.broadcast_to(share.reshape(-1, *[1] * (axis_angle.ndim - 1)), shape).reshape(-1, 3)
    start, end = axis_angle[first].reshape(-1, 3), axis_angle[second].reshape(-1, 3)
    known = np.isfinite(start).all(axis=1) & np.isfinite(end).all(axis=1)
    a, b = Rotation.from_rotvec(start[known]), Rotation.from_rotvec(end[known])
    turned = a * Rotation.from_rotvec(weight[known] * (a.inv() * b).as_rotvec())
    result = np.full(start.shape, np.nan)
    result[known] = turned.as_rotvec()
    return result.reshape(shape)


def _turns_of(vectors: np.ndarray, near: np.ndarray) -> np.ndarray:
    """The same rotations (N, 3) with as many full turns as bring them nearest to `near` (N, 3).

    Recorded vectors are continuous over time, so those between them are too.
    """
    angle = np.linalg.norm(vectors, axis=-1, keepdims=True)
    length = np.linalg.norm(near, axis=-1, keepdims=True)
    axis = np.where(angle > 1e-9, vectors, near) / np.maximum(
        np.where(angle > 1e-9, angle, length), 1e-300
    )
    along = (axis * near).sum(axis=-1, keepdims=True)
    return axis * (angle + 2 * np.pi * np.round((along - angle) / (2 * np.pi)))
