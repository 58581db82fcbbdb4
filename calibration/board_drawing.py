"""A board as black shapes on white: for the printer (PDF) and, as pixels, for rendering tests."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from calibration.boards import Board
from calibration.markers import dictionary

# Radius of circles as a share of their distance along a row or column.
_CIRCLE = 0.3
# Width of the black rim around boards that are printed white on black, in squares.
_RIM = 0.5


@dataclass(frozen=True, eq=False)
class Drawing:
    """Shapes from the top left corner of the pattern, +x right, +y down, metres."""

    width: float
    height: float
    ink: bool
    """The shapes are dark on light; False: light on a dark ground of the whole size."""
    rectangles: np.ndarray
    """(N, 4) float64: left, top, width, height."""
    circles: np.ndarray
    """(M, 3) float64: centre and radius."""
    origin: tuple[float, float]
    """Where the board frame's origin lies in the drawing."""


def draw_board(board: Board) -> Drawing:
    """The shapes of a board."""
    if board.kind == "circles":
        return _circles(board)
    rectangles = _squares(board) if board.kind != "aprilgrid" else _tags(board)
    width, height = board.size
    if board.kind == "charuco":
        origin = (board.square, board.square)
    elif board.kind == "chessboard":
        origin = (board.square, board.square)
    else:
        origin = (board.marker, board.marker)
    rim = _RIM * board.square if board.inverted else 0.0
    rectangles = rectangles + [rim, rim, 0, 0]
    return Drawing(
        width + 2 * rim,
        height + 2 * rim,
        not board.inverted,
        rectangles,
        np.zeros((0, 3)),
        (origin[0] + rim, origin[1] + rim),
    )


def _squares(board: Board) -> np.ndarray:
    """Dark squares of a chessboard or ChArUco board, and the markers in its light ones."""
    extra = 1 if board.kind == "chessboard" else 0
    columns, rows = board.columns + extra, board.rows + extra
    # OpenCV begins with a dark square at the top left; before 4.6 it did so at the bottom left.
    first = 1 if board.legacy and board.rows % 2 == 0 else 0
    side, out, number = board.square, [], 0
    for row in range(rows):
        for column in range(columns):
            if (row + column + first) % 2 == 0:
                out.append([column * side, row * side, side, side])
            elif board.kind == "charuco":
                gap = (side - board.marker) / 2
                at = np.array([column * side + gap, row * side + gap])
                out += _marker(board.dictionary, number, at, board.marker, 1)
                number += 1
    return np.array(out)


def _tags(board: Board) -> np.ndarray:
    """Kalibr's AprilGrid: tags with a border of two bits, and squares between their corners."""
    step = board.square + board.marker
    out = [
        [column * step, row * step, board.marker, board.marker]
        for row in range(board.rows + 1)
        for column in range(board.columns + 1)
    ]
    points = board.points()[:, :2] + board.marker
    for number in board.marker_ids():
        out += _marker(board.dictionary, number, points[4 * number], board.square, 2)
    return np.array(out)


def _marker(name: str, number: int, at: np.ndarray, side: float, border: int) -> list[list[float]]:
    """The dark cells of a marker, neighbours in a row as one rectangle (no hairlines in print)."""
    import cv2

    bits = dictionary(name).markerSize + 2 * border
    # One pixel a bit: the dark ones are zero.
    picture = cv2.aruco.generateImageMarker(dictionary(name), number, bits, borderBits=border)
    cell, out = side / bits, []
    for row in range(bits):
        dark = np.r_[False, picture[row] < 128, False]
        edges = np.flatnonzero(np.diff(dark.astype(int)))
        for begin, end in zip(edges[::2], edges[1::2], strict=True):
            left = at[0] + begin * cell
            out.append([left, at[1] + row * cell, (end - begin) * cell, cell])
    return out


def _circles(board: Board) -> Drawing:
    points = board.points()[:, :2]
    rim = board.square
    centres = points + rim
    width, height = points.max(axis=0) + 2 * rim
    circles = np.column_stack([centres, np.full(len(points), _CIRCLE * board.square)])
    return Drawing(
        float(width), float(height), not board.inverted, np.zeros((0, 4)), circles, (rim, rim)
    )


def render_board(board: Board, pixels_per_metre: float, margin: float) -> np.ndarray:
    """The board as a picture.

    Args:
        pixels_per_metre: resolution.
        margin: metres of paper around the pattern.
    Returns:
        (H, W) uint8; the pattern's top left corner lies at `margin` (pixel edges, not centres).
    """
    import cv2

    drawing = draw_board(board)
    size = np.array([drawing.height, drawing.width]) + 2 * margin
    height, width = np.ceil(size * pixels_per_metre).astype(int)
    picture = np.full((height, width), 255, np.uint8)
    shift = 4  # OpenCV draws with 4 bits of sub-pixel precision

    def fill(corner: np.ndarray, extent: np.ndarray, shade: int) -> None:
        a = np.rint((corner + margin) * pixels_per_metre).astype(int)
        b = np.rint((corner + extent + margin) * pixels_per_metre).astype(int)
        picture[a[1] : b[1], a[0] : b[0]] = shade

    ink = 0 if drawing.ink else 255
    if not drawing.ink:
        fill(np.zeros(2), np.array([drawing.width, drawing.height]), 0)
    for left, top, w, h in drawing.rectangles:
        fill(np.array([left, top]), np.array([w, h]), ink)
    for x, y, radius in drawing.circles:
        # Pixel centres are half a pixel from the edges that metres are counted from.
        at = (np.array([x, y]) + margin) * pixels_per_metre - 0.5
        centre = tuple(np.rint(at * 2**shift).astype(int).tolist())
        r = round(radius * pixels_per_metre * 2**shift)
        cv2.circle(picture, centre, r, ink, -1, cv2.LINE_AA, shift)
    return picture
