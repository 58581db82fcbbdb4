"""Why a board is not found, or not what was stated: reasons in words, from a few pictures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from calibration.boards import Board
from calibration.detection import charuco_detector, detect
from calibration.errors import CalibrationError
from calibration.markers import COMMON_DICTIONARIES, find_markers

# A marker seen in so many of the pictures is there; one alone may be a false alarm.
_MARKERS = 3
# Pictures that are looked into for a reason; each is searched in many ways.
_ENOUGH = 4
_RATIO_TOLERANCE = 0.06


def why_not_found(pictures: Sequence[np.ndarray], board: Board) -> str:
    """The probable reason why a board was found in none of the pictures, with its remedy.

    Args:
        pictures: (H, W) uint8 each, some in which the board should show.
    """
    pictures = pictures[:: max(1, len(pictures) // _ENOUGH)][:_ENOUGH]
    for reason in (_mirrored, _other_print, _other_grid, _other_markers):
        text = reason(pictures, board)
        if text:
            return text
    return (
        "check --board against the board that was filmed; film it again whole, flat, in even light "
        "without glare, and larger in the picture (a quarter of its width or more)"
    )


def check_board(pictures: Sequence[np.ndarray], board: Board) -> None:
    """Check pictures in which the board was found for signs that it is another one.

    Raises:
        CalibrationError: more squares or markers than stated, or markers of another size.
    """
    if board.kind == "chessboard":
        size = _larger_chessboard(pictures, board)
        stated = sorted((board.columns, board.rows))
        # Part of the board may be found as a smaller one; more than stated cannot be imagined.
        if size and sorted(size) != stated and min(size) >= stated[0] and max(size) >= stated[1]:
            raise CalibrationError(
                f"board: it has {size[0]}x{size[1]} inner corners, --board says "
                f"{board.columns}x{board.rows}; give the number of inner corners, not of squares"
            )
    if board.kind in ("charuco", "aprilgrid"):
        beyond = _numbers_beyond(pictures, board)
        if beyond:
            raise CalibrationError(_too_many(board, beyond))
    if board.kind == "charuco":
        _check_marker_size(pictures, board)


def _mirrored(pictures: Sequence[np.ndarray], board: Board) -> str:
    # A mirrored chessboard or grid of circles looks like another one; markers tell.
    if board.kind == "charuco" or board.kind == "aprilgrid":
        if any(detect(np.ascontiguousarray(g[:, ::-1]), board) for g in pictures):
            return (
                "the pictures are mirrored; export the recording again without mirroring (a selfie "
                "camera's preview or a video filter does this)"
            )
    return ""


def _other_print(pictures: Sequence[np.ndarray], board: Board) -> str:
    """White on black, OpenCV's older layout, the other kind of circle grid, tags from the top."""
    trials = [("is printed the other way round, dark and light exchanged", "inverted")]
    if board.kind == "charuco":
        trials.append(("has the layout of OpenCV before 4.6", "legacy"))
    if board.kind == "circles":
        trials.append(("has its rows shifted against one another", "asymmetric"))
    if board.kind == "aprilgrid":
        trials.append(("is numbered from the top", "topdown"))
    for text, flag in trials:
        other = replace(board, **{flag: not getattr(board, flag)})  # type: ignore[arg-type]
        if _found(pictures, other) >= 1:
            verb = "add" if getattr(other, flag) else "drop"
            return f"the board {text}; {verb} ':{flag}' in --board"
    return ""


def _found(pictures: Sequence[np.ndarray], board: Board) -> int:
    return sum(detect(gray, board) is not None for gray in pictures)


def _other_grid(pictures: Sequence[np.ndarray], board: Board) -> str:
    """Columns and rows that are wrong or exchanged."""
    if board.kind == "chessboard":
        size = _larger_chessboard(pictures, board)
        if size:
            stated = sorted((board.columns, board.rows))
            seen = f"a chessboard of {size[0]}x{size[1]} inner corners is seen, --board says "
            seen += f"{board.columns}x{board.rows}; "
            if min(size) <= stated[0] and max(size) <= stated[1]:
                return (
                    f"{seen}if it has as many, part of it is cut off by the edge of the picture or "
                    "covered: film it whole; else count inner corners, not squares"
                )
            return f"{seen}count inner corners, not squares"
        return ""
    if board.columns != board.rows:
        other = replace(board, columns=board.rows, rows=board.columns)
        if _found(pictures, other):
            return f"columns and rows are exchanged; write {other.columns}x{other.rows}"
    if board.kind in ("charuco", "aprilgrid"):
        beyond = _numbers_beyond(pictures, board)
        if beyond:
            return _too_many(board, beyond)
    return ""


def _too_many(board: Board, highest: int) -> str:
    return (
        f"board: marker number {highest} is seen, but a {board.kind} of "
        f"{board.columns}x{board.rows} has none above "
        f"{len(board.marker_ids()) - 1}; correct the columns and rows in --board"
    )


def _numbers_beyond(pictures: Sequence[np.ndarray], board: Board) -> int:
    """The highest marker number that the board cannot have and that shows again and again; or 0."""
    seen: Counter[int] = Counter()
    for gray in pictures:
        picture = 255 - gray if board.inverted else gray
        seen.update(find_markers(picture, board.dictionary).keys())
    beyond = [n for n, times in seen.items() if n not in board.marker_ids() and times >= 2]
    return max(beyond) if len(beyond) >= 2 else 0


def _other_markers(pictures: Sequence[np.ndarray], board: Board) -> str:
    """Markers of another dictionary."""
    if board.kind not in ("charuco", "aprilgrid"):
        return ""
    counts = {}
    pictures = pictures[:2]
    for name in dict.fromkeys((board.dictionary, *COMMON_DICTIONARIES)):
        counts[name] = max(
            (len(find_markers(p, name)) for g in pictures for p in (g, 255 - g)), default=0
        )
    best = max(counts, key=lambda name: counts[name])
    if counts[best] >= _MARKERS and counts[best] > 2 * counts[board.dictionary]:
        family = best.rsplit("_", 1)[0] if best.endswith("_1000") else best
        return f"its markers are of {family}, --board says {board.dictionary}; correct it"
    if counts[board.dictionary] >= _MARKERS:
        return (
            f"single markers of {board.dictionary} are seen, but they do not form a board of "
            f"{board.columns}x{board.rows}; correct columns, rows or ':legacy' in --board"
        )
    return ""


def _larger_chessboard(pictures: Sequence[np.ndarray], board: Board) -> tuple[int, int] | None:
    """Inner corners of the chessboard that most pictures show; None where none is seen."""
    import cv2

    sizes: Counter[tuple[int, int]] = Counter()
    flags = cv2.CALIB_CB_LARGER | cv2.CALIB_CB_NORMALIZE_IMAGE
    for gray in pictures[:5]:
        scale = min(1.0, 1000 / max(gray.shape))
        small = cv2.resize(gray, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        ok, corners, meta = cv2.findChessboardCornersSBWithMeta(small, (3, 3), flags)
        if ok and meta is not None:
            rows, columns = meta.shape[:2]
            sizes[max(rows, columns), min(rows, columns)] += 1
            if sizes.most_common(1)[0][1] == 2:
                break
    return sizes.most_common(1)[0][0] if sizes else None


def _check_marker_size(pictures: Sequence[np.ndarray], board: Board) -> None:
    """Compare the markers' side with the squares', which the board's own plane measures."""
    import cv2

    ratios: list[float] = []
    detector = charuco_detector(board)
    for gray in pictures:
        corners, ids, quads, numbers = detector.detectBoard(255 - gray if board.inverted else gray)
        if ids is None or len(ids) < 6 or numbers is None:
            continue
        plane = board.points()[np.ravel(ids), :2]
        H, _ = cv2.findHomography(np.reshape(corners, (-1, 2)), plane)
        if H is None:
            continue
        for quad in quads:
            flat = cv2.perspectiveTransform(np.float64(quad).reshape(-1, 1, 2), H)[:, 0]
            sides = np.linalg.norm(flat - np.roll(flat, 1, axis=0), axis=1)
            ratios.append(float(sides.mean()) / board.square)
    if len(ratios) < 10:
        return
    measured, stated = float(np.median(ratios)), board.marker / board.square
    if abs(measured / stated - 1) > _RATIO_TOLERANCE:
        raise CalibrationError(
            f"board: its markers measure {measured:.2f} of a square, --board says {stated:.2f}; "
            "measure squares and markers and correct --board"
        )
