"""Cameras whose clocks are a little apart, found from a moving board.

A picture that was taken a time d before its moment shows the board where it was then; the corners'
velocities in the picture say where they would have been, to first order. Between frames a corner
moves by its mean displacement to the two neighbouring moments.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from calibration.bundle import Corners
from calibration.views import View

# Offsets of more than this many moments are no matter of first order.
_MOST = 1.0
# Seconds between neighbouring pictures beyond which their difference is no velocity.
_LONGEST_STEP = 0.2
# Corners that move less than this say nothing, px per moment.
_LEAST_SPEED = 0.3


def corner_velocities(ordered: Iterable[View], every_view: Iterable[View]) -> np.ndarray:
    """Velocities of corners in their pictures.

    Args:
        ordered: the views that are used, as in `Corners`.
        every_view: all views there are, whose neighbours in time are looked for.
    Returns:
        (N, 2) float64 px per moment; 0 where no neighbouring moment shows the corner.
    """
    known = {(v.camera, v.moment): v for v in every_view}
    moments: dict[str, list[int]] = {}
    for camera, moment in known:
        moments.setdefault(camera, []).append(moment)
    step = {camera: _step(own) for camera, own in moments.items()}
    out = []
    for view in ordered:
        sums = np.zeros((len(view.detection.ids), 2))
        count = np.zeros(len(view.detection.ids))
        for sign in (-1, 1):
            gap = sign * step[view.camera]
            other = known.get((view.camera, view.moment + gap))
            if other is None:
                continue
            _, i, j = np.intersect1d(view.detection.ids, other.detection.ids, return_indices=True)
            sums[i] += (other.detection.xy[j] - view.detection.xy[i]) / gap
            count[i] += 1
        out.append(sums / np.maximum(count, 1)[:, None])
    return np.concatenate(out) if out else np.zeros((0, 2))


def _step(moments: Iterable[int]) -> int:
    """The usual distance of moments that were searched: every frame, or every n-th."""
    ordered = sorted(set(moments))
    return int(np.diff(ordered).min()) if len(ordered) > 1 else 1


def velocities_are_known(views: Iterable[View], seconds_per_moment: float) -> bool:
    """Whether moments follow one another closely enough for velocities: a hand turns a board the
    other way within a few tenths of a second."""
    return _step(view.moment for view in views) * seconds_per_moment <= _LONGEST_STEP


def offset_step(
    corners: Corners, velocity: np.ndarray, residuals: np.ndarray, cameras: int
) -> np.ndarray:
    """How much further each camera's pictures should be moved along in time.

    Args:
        velocity: (N, 2) px per moment.
        residuals: (N, 2) px, predicted - observed, with the present offsets.
    Returns:
        (C,) moments, the first camera's being 0; 0 where nothing moves.
    """
    whitened = np.linalg.norm(corners.whitened(residuals), axis=1)
    limit = 3 * np.median(whitened)
    weight = np.minimum(1.0, limit / np.maximum(whitened, 1e-12))
    if corners.weight is not None:
        weight = weight * corners.weight
    weight = weight * (np.linalg.norm(velocity, axis=1) > _LEAST_SPEED)
    step = np.zeros(cameras)
    for c in range(cameras):
        rows = corners.camera == c
        push = float((weight[rows, None] * velocity[rows] * residuals[rows]).sum())
        size = float((weight[rows, None] * velocity[rows] ** 2).sum())
        step[c] = push / size if size > 0 else 0.0
    return np.clip(step - step[0], -_MOST, _MOST)
