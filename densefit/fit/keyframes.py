"""The frames of a long take that tell most about the person."""

from __future__ import annotations

import numpy as np

VIEW_SCALE = 0.15
"""Rotation (rad) that counts as one step apart."""
TIME_STEPS = 4.0
"""The whole take counts as this many steps: other moments have other expressions."""
OF_EACH_CAMERA = 8
"""Keyframes (all, if fewer) in which an unknown camera must see the head, where it can."""


def choose_keyframes(
    rotation: np.ndarray, time: np.ndarray, score: np.ndarray, count: int
) -> np.ndarray:
    """Farthest-point sampling over head rotation and time, among the frames whose first pose fits
    well.

    Args:
        rotation: (T, 3, 3). time: (T,) s. score: (T,) badness of the first pose, nan where unseen.
    Returns:
        Indices in ascending order, at most `count`.
    """
    seen = np.isfinite(score)
    limit = np.quantile(score[seen], 0.8)
    usable = np.flatnonzero(seen & (np.nan_to_num(score, nan=np.inf) <= limit))
    if len(usable) <= count:
        return usable
    # A third of the rows of R, which is where the face looks, and the first, which shows roll.
    views = rotation[usable][:, :, [0, 2]].reshape(len(usable), -1) / VIEW_SCALE
    length = max(float(time[usable[-1]] - time[usable[0]]), 1e-9)
    features = np.c_[views, TIME_STEPS * time[usable] / length]
    chosen = [int(np.argmin(score[usable]))]
    distance = np.square(features - features[chosen[0]]).sum(1)
    for _ in range(count - 1):
        chosen.append(int(np.argmax(distance)))
        distance = np.minimum(distance, np.square(features - features[chosen[-1]]).sum(1))
    return np.sort(usable[chosen])


def with_frames_of(
    picked: np.ndarray, valid: np.ndarray, cameras: list[int], score: np.ndarray
) -> np.ndarray:
    """Frames and as many more as leave no camera of some without any.

    An unknown camera that sees the head now and then would else keep its first guess until the
    whole take is polished, too far off for that; sigmas of any would not be measured.

    Args:
        picked: the frames. valid: (T, C) bool. cameras: those of them. score: (T,) as above.
    Returns:
        Indices in ascending order.
    """
    least = min(OF_EACH_CAMERA, len(picked))
    for camera in cameras:
        lacking = least - int(valid[picked, camera].sum())
        if lacking <= 0:
            continue
        own = np.setdiff1d(np.flatnonzero(valid[:, camera] & np.isfinite(score)), picked)
        # Seen together with others a head tells where the camera stands; good first poses first.
        order = np.lexsort((score[own], -valid[own].sum(axis=1)))
        picked = np.union1d(picked, own[order[:lacking]])
    return picked
