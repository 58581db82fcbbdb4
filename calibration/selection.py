"""Choosing views: sharp ones, still ones, and as different from one another as can be."""

from __future__ import annotations

import itertools

import numpy as np

from calibration.boards import Board
from calibration.views import CameraPictures, View, by_moment, views_of

# Of each camera the blurriest views go, and those in which the board moves fastest, as long as
# enough are left.
_BLUR_SHARE = 0.25
_MOTION_SHARE = 0.25
_ENOUGH = 20


def select_views(
    views: list[View],
    board: Board,
    cameras: list[CameraPictures],
    per_camera: int,
    per_pair: int,
) -> list[View]:
    """Choose moments; all views of a chosen moment are used.

    Args:
        per_camera: views that each camera should have, if it has that many.
        per_pair: moments that each two cameras should share, if they do.
    """
    chosen: set[int] = set()
    good = {c.name: _good_views(views_of(views, c.name)) for c in cameras}
    features = {c.name: np.array([feature(v, board, c) for v in good[c.name]]) for c in cameras}
    for camera in cameras:
        picked = farthest_points(features[camera.name], per_camera)
        chosen.update(good[camera.name][i].moment for i in picked)
    for a, b in itertools.combinations(cameras, 2):
        second = {v.moment: i for i, v in enumerate(good[b.name])}
        shared = [(i, second[v.moment]) for i, v in enumerate(good[a.name]) if v.moment in second]
        if shared:
            rows, columns = map(list, zip(*shared, strict=True))
            both = np.hstack([features[a.name][rows], features[b.name][columns]])
            chosen.update(good[a.name][rows[i]].moment for i in farthest_points(both, per_pair))
    kept = {(v.camera, v.moment) for group in good.values() for v in group}
    return [v for v in views if v.moment in chosen and (v.camera, v.moment) in kept]


def feature(view: View, board: Board, camera: CameraPictures) -> np.ndarray:
    """(7,) float64: place, size, turn and foreshortening of the board, about one unit each."""
    import cv2

    points = board.points()[view.detection.ids, :2]
    span = max(board.size)
    side = max(camera.width, camera.height)
    H, _ = cv2.findHomography(points / span, view.detection.xy / side)
    if H is None:
        return np.zeros(7)
    H = H / H[2, 2]
    middle = board.points()[:, :2].mean(axis=0) / span
    depth = H[2, :2] @ middle + 1
    centre = (H[:2, :2] @ middle + H[:2, 2]) / depth
    # The derivative of the mapping at the middle: how the board appears there.
    local = (H[:2, :2] - np.outer(centre, H[2, :2])) / depth
    turn = np.arctan2(local[1, 0], local[0, 0])
    scale = np.sqrt(max(abs(np.linalg.det(local)), 1e-12))
    tilt = H[2, :2] / depth / max(scale, 1e-6)
    return np.array(
        [*(centre * 2), np.log(scale), np.cos(turn) * 0.5, np.sin(turn) * 0.5, *(tilt * 0.5)]
    )


def farthest_points(features: np.ndarray, count: int) -> list[int]:
    """Indices of `count` rows, each the farthest from those taken before; the first is the most
    central one."""
    if len(features) <= count:
        return list(range(len(features)))
    distance = np.linalg.norm(features - features.mean(axis=0), axis=1)
    taken = [int(distance.argmin())]
    nearest = np.linalg.norm(features - features[taken[0]], axis=1)
    while len(taken) < count:
        taken.append(int(nearest.argmax()))
        nearest = np.minimum(nearest, np.linalg.norm(features - features[taken[-1]], axis=1))
    return sorted(taken)


def _good_views(views: list[View]) -> list[View]:
    """Less the blurriest and then the fastest, as long as enough are left."""
    views = _less(views, np.array([-v.detection.sharpness for v in views]), _BLUR_SHARE)
    return _less(views, _motion(views), _MOTION_SHARE)


def _less(views: list[View], badness: np.ndarray, share: float) -> list[View]:
    drop = min(int(share * len(views)), max(len(views) - _ENOUGH, 0))
    worst = set(np.argsort(badness)[len(views) - drop :].tolist())
    return [v for i, v in enumerate(views) if i not in worst]


def _motion(views: list[View]) -> np.ndarray:
    """(N,) px per moment to the stiller of the two neighbouring views; 0 where unknown."""
    motion = np.zeros(len(views))
    for i, view in enumerate(views):
        speeds = []
        for j in (i - 1, i + 1):
            if 0 <= j < len(views):
                speeds.append(_speed(view, views[j]))
        known = [s for s in speeds if np.isfinite(s)]
        motion[i] = min(known) if known else 0.0
    return motion


def _speed(a: View, b: View) -> float:
    _, i, j = np.intersect1d(a.detection.ids, b.detection.ids, return_indices=True)
    if not len(i):
        return float("inf")
    shift = np.linalg.norm(a.detection.xy[i] - b.detection.xy[j], axis=1).mean()
    return float(shift) / max(abs(a.moment - b.moment), 1)


def hold_out(views: list[View], every: int = 4) -> tuple[list[View], list[View]]:
    """Split by moments: (used, held out), every n-th moment being held out."""
    moments = list(by_moment(views))
    out = set(moments[every // 2 :: every])
    return [v for v in views if v.moment not in out], [v for v in views if v.moment in out]
