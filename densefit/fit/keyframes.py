"""The frames of a long take that tell most about the person."""

from __future__ import annotations

import numpy as np

VIEW_SCALE = 0.15
"""Rotation (rad) that counts as one step apart."""
TIME_STEPS = 4.0
"""The whole take counts as this many steps: other moments have other expressions."""
OF_EACH_CAMERA = 8
"""Keyframes (all, if fewer) in which a camera must see the head, where it can, and one that is not
placed must see it together with another."""


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
    picked: np.ndarray, valid: np.ndarray, unplaced: list[int], score: np.ndarray
) -> np.ndarray:
    """Frames and as many more as leave no camera without any, by which its sigma is measured.

    Where one stands that is not known only tells a head that another sees, too: without such frames
    it would keep its first place until the whole take is polished, too far off for that.

    Args:
        picked: the frames. valid: (T, C) bool. unplaced: cameras of unknown extrinsics. score: (T,)
            as above.
    Returns:
        Indices in ascending order.
    """
    least = min(OF_EACH_CAMERA, len(picked))
    several = valid.sum(axis=1) > 1
    wanted = [valid[:, camera] & several for camera in unplaced] + list(valid.T)
    for use in wanted:
        lacking = least - int(use[picked].sum())
        if lacking <= 0:
            continue
        own = np.setdiff1d(np.flatnonzero(use & np.isfinite(score)), picked)
        # Seen together with others a head tells most; good first poses first.
        order = np.lexsort((score[own], -valid[own].sum(axis=1)))
        picked = np.union1d(picked, own[order[:lacking]])
    return picked
