"""Finding a board in one picture."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np

from calibration.boards import Board
from calibration.markers import dictionary, find_markers

# Fewer points than this say too little about pose and lens to be worth a view.
MIN_POINTS = 6
# Corners are refined within this share of the distance to the nearest other corner: large windows
# average away noise, too large ones reach the neighbour.
_WINDOW_SHARE = 0.32
_WINDOW_RANGE = (2, 15)
# A corner that the refinement moves further than this share of its window has left its corner.
_MAX_DRIFT = 0.8
# Chessboards are first sought in a picture of about this many pixels a side: a large picture
# without a board takes seconds otherwise.
_SEARCH_SIZE = 1400


@dataclass(frozen=True, eq=False)
class Detection:
    """Board points in one picture."""

    ids: np.ndarray
    """(N,) int64, increasing: indices into `Board.points()`."""
    xy: np.ndarray
    """(N, 2) float64 px."""
    sharpness: float
    """Contrast of fine against coarse detail inside the board; to rank pictures of one camera."""


def detect(gray: np.ndarray, board: Board) -> Detection | None:
    """Find the board.

    Args:
        gray: (H, W) uint8.
    Returns:
        At least MIN_POINTS points that are not all on one line, or None.
    """
    gray = np.ascontiguousarray(gray)
    if board.inverted:
        gray = 255 - gray
    found = {
        "charuco": _charuco,
        "chessboard": _chessboard,
        "circles": _circles,
        "aprilgrid": _aprilgrid,
    }[board.kind](gray, board)
    if found is None or len(found[0]) < MIN_POINTS:
        return None
    ids, xy = found
    inside = ((xy >= 0) & (xy <= np.array(gray.shape[::-1]) - 1)).all(axis=1)
    order = np.argsort(ids[inside])
    ids, xy = ids[inside][order].astype(np.int64), xy[inside][order].astype(np.float64)
    if len(ids) < MIN_POINTS or _on_a_line(board.points()[ids]) or _on_a_line(xy, 1.0):
        return None
    return Detection(ids, xy, _sharpness(gray, xy))


def _charuco(gray: np.ndarray, board: Board) -> tuple[np.ndarray, np.ndarray] | None:
    corners, ids, _, _ = charuco_detector(board).detectBoard(gray)
    if ids is None or len(ids) < MIN_POINTS:
        return None
    ids = np.ravel(ids)
    return _refined(gray, ids, np.reshape(corners, (-1, 2)), board)


@functools.cache
def charuco_detector(board: Board) -> Any:
    """cv2.aruco.CharucoDetector for a board."""
    import cv2

    size = (board.columns, board.rows)
    pattern = cv2.aruco.CharucoBoard(
        size, float(board.square), float(board.marker), dictionary(board.dictionary)
    )
    pattern.setLegacyPattern(board.legacy)
    return cv2.aruco.CharucoDetector(pattern)


def _chessboard(gray: np.ndarray, board: Board) -> tuple[np.ndarray, np.ndarray] | None:
    import cv2

    size = (board.columns, board.rows)
    scale = min(1.0, _SEARCH_SIZE / max(gray.shape))
    small = gray
    if scale < 1:
        small = cv2.resize(gray, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    flags = cv2.CALIB_CB_ADAPTIVE_THRESH | cv2.CALIB_CB_NORMALIZE_IMAGE
    ok, xy = cv2.findChessboardCorners(small, size, flags=flags | cv2.CALIB_CB_FAST_CHECK)
    if not ok:
        # The second finder sees boards in worse light; its own corners are refined all the same.
        ok, xy = cv2.findChessboardCornersSB(small, size, flags=cv2.CALIB_CB_NORMALIZE_IMAGE)
    if not ok:
        return None
    xy = (np.reshape(xy, (-1, 2)) + 0.5) / scale - 0.5
    xy = _in_board_order(gray, xy.reshape(board.rows, board.columns, 2))
    ids = np.arange(board.columns * board.rows)
    refined = _refined(gray, ids, xy.reshape(-1, 2), board)
    # A chessboard's corners are known by their places in the grid: all of them or none.
    return refined if len(refined[0]) == len(ids) else None


def _in_board_order(gray: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """Order a chessboard's corners as on the board.

    Args:
        grid: (rows, columns, 2) px, rows along one side, in whatever direction.
    Returns:
        The same, right-handed (seen from the front), and where the colours tell one end from the
        other with a black square between the first four corners.
    """
    rows, columns = grid.shape[:2]
    right, down = grid[0, -1] - grid[0, 0], grid[-1, 0] - grid[0, 0]
    if right[0] * down[1] - right[1] * down[0] < 0:
        # Colours do not change when an even number of corners is reversed.
        grid = grid[::-1] if rows % 2 == 0 else grid[:, ::-1]
    if (rows + columns) % 2 == 1:
        centres = (grid[:-1, :-1] + grid[1:, 1:] + grid[:-1, 1:] + grid[1:, :-1]) / 4
        pixel = np.rint(centres).astype(int).clip(0, np.array(gray.shape[::-1]) - 1)
        shade = gray[pixel[..., 1], pixel[..., 0]].astype(float)
        sign = np.where(np.add.outer(np.arange(rows - 1), np.arange(columns - 1)) % 2, 1, -1)
        if (shade * sign).sum() - shade.mean() * sign.sum() < 0:
            grid = grid[::-1, ::-1]
    return grid


def _circles(gray: np.ndarray, board: Board) -> tuple[np.ndarray, np.ndarray] | None:
    import cv2

    flags = cv2.CALIB_CB_ASYMMETRIC_GRID if board.asymmetric else cv2.CALIB_CB_SYMMETRIC_GRID
    blobs = _blob_detector(max(gray.shape))
    size = (board.columns, board.rows)
    for extra in (0, cv2.CALIB_CB_CLUSTERING):
        ok, xy = cv2.findCirclesGrid(gray, size, flags=flags | extra, blobDetector=blobs)
        if ok:
            grid = np.reshape(xy, (board.rows, board.columns, 2))
            right, down = grid[0, -1] - grid[0, 0], grid[-1, 0] - grid[0, 0]
            mirrored = right[0] * down[1] - right[1] * down[0] < 0
            if mirrored and board.asymmetric:
                return None
            grid = grid[::-1] if mirrored else grid
            # The finder takes an asymmetric grid for a symmetric one: its rows then do not lie on
            # a plane seen in perspective.
            if not _fits_plane(board.points()[:, :2], grid.reshape(-1, 2)):
                continue
            return np.arange(board.columns * board.rows), grid.reshape(-1, 2)
    return None


def _fits_plane(points: np.ndarray, xy: np.ndarray) -> bool:
    """Whether a homography explains the points to a fraction of their distance."""
    import cv2

    H, _ = cv2.findHomography(points, xy)
    if H is None:
        return False
    mapped = cv2.perspectiveTransform(points[:, None], H)[:, 0]
    return bool(np.median(np.linalg.norm(mapped - xy, axis=1)) < 0.15 * _nearest(xy))


def _blob_detector(picture_side: int) -> Any:
    """Dark blobs from a few pixels up to a tenth of the picture across.

    Made anew each time: it keeps what it found last, and cameras are searched side by side.
    """
    import cv2

    parameters = cv2.SimpleBlobDetector.Params()
    parameters.minArea = 12.0
    parameters.maxArea = float((picture_side / 10) ** 2)
    parameters.minDistBetweenBlobs = 4.0
    return cv2.SimpleBlobDetector.create(parameters)


def _aprilgrid(gray: np.ndarray, board: Board) -> tuple[np.ndarray, np.ndarray] | None:
    """Tag corners. Which corner of a tag is its first differs between programs that draw tags, so
    the four possible turns are tried, and the one in which all tags form the grid is taken."""
    import cv2

    best: dict[int, np.ndarray] = {}
    for border in (2, 1):
        found = find_markers(gray, board.dictionary, border)
        found = {number: quad for number, quad in found.items() if number in board.marker_ids()}
        if len(found) > len(best):
            best = found
    if len(best) < 2:
        return None
    ids = np.array([4 * number + k for number in best for k in range(4)])
    points = board.points()[ids, :2]
    chosen, error = None, np.inf
    for turn in range(4):
        xy = np.concatenate([np.roll(quad, -turn, axis=0) for quad in best.values()])
        H, _ = cv2.findHomography(points, xy, cv2.RANSAC, 5.0)
        if H is None:
            continue
        mapped = cv2.perspectiveTransform(points[:, None], H)[:, 0]
        distance = float(np.median(np.linalg.norm(mapped - xy, axis=1)))
        if distance < error:
            chosen, error = xy, distance
    side = np.linalg.norm(np.diff(np.stack(list(best.values())), axis=1), axis=2).mean()
    if chosen is None or error > 0.2 * side:
        return None
    # Squares that touch a tag's corners pull some of its outline along; the plane knows better.
    H, _ = cv2.findHomography(points, chosen, cv2.RANSAC, 0.1 * float(side))
    mapped = cv2.perspectiveTransform(points[:, None], H)[:, 0]
    astray = np.linalg.norm(mapped - chosen, axis=1) > 0.06 * side
    chosen = np.where(astray[:, None], mapped, chosen)
    return _refined(gray, ids, chosen, board)


def _refined(
    gray: np.ndarray, ids: np.ndarray, xy: np.ndarray, board: Board
) -> tuple[np.ndarray, np.ndarray]:
    """Corners to a fraction of a pixel; those that ran away are dropped."""
    import cv2

    window = int(np.clip(round(_WINDOW_SHARE * _nearest(xy)), *_WINDOW_RANGE))
    if board.kind in ("charuco", "aprilgrid"):
        # A marker's own corners come nearer to the chessboard corner than the next such corner.
        gap = (board.square - board.marker) / 2 if board.kind == "charuco" else board.marker
        share = gap / (board.square if board.kind == "charuco" else min(board.square, gap))
        window = int(np.clip(round(0.9 * share * _nearest(xy)), *(_WINDOW_RANGE[0], window)))
    start = np.ascontiguousarray(xy, np.float32).reshape(-1, 1, 2)
    stop = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 60, 1e-4)
    moved = cv2.cornerSubPix(gray, start.copy(), (window, window), (-1, -1), stop)
    drift = np.linalg.norm((moved - start)[:, 0], axis=1)
    good = drift <= max(1.5, _MAX_DRIFT * window)
    return ids[good], moved[good, 0].astype(np.float64)


def _nearest(xy: np.ndarray) -> float:
    """px: the least distance of two corners, the shortest few left out."""
    distance = np.linalg.norm(xy[:, None] - xy[None], axis=2)
    np.fill_diagonal(distance, np.inf)
    return float(np.percentile(distance.min(axis=1), 10))


def _on_a_line(points: np.ndarray, tolerance: float = 1e-9) -> bool:
    centred = points - points.mean(axis=0)
    return bool(np.linalg.svd(centred, compute_uv=False)[1] <= tolerance)


def _sharpness(gray: np.ndarray, xy: np.ndarray) -> float:
    """Fine detail (Laplacian) over contrast inside the points' bounding box."""
    import cv2

    low = np.floor(xy.min(axis=0)).astype(int).clip(0)
    high = np.ceil(xy.max(axis=0)).astype(int) + 1
    patch = gray[low[1] : high[1], low[0] : high[0]].astype(np.float32)
    contrast = float(patch.std())
    return float(cv2.Laplacian(patch, cv2.CV_32F).std()) / max(contrast, 1.0)
