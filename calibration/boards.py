"""Calibration boards: what is printed on them and where its points lie.

Board frame: origin at the first point, +x along a row to the right, +y down the board as it hangs
readable, +z into the board; metres. A camera in front of an upright board has R near the identity.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from calibration.errors import CalibrationError

Kind = Literal["charuco", "chessboard", "circles", "aprilgrid"]

UNITS = {"mm": 1e-3, "cm": 1e-2, "m": 1.0, "in": 0.0254, "inch": 0.0254}
EXAMPLES = {
    "charuco": "charuco:5x7:35mm:26mm:DICT_4X4_50[:inverted][:legacy]",
    "chessboard": "chessboard:9x6:25mm",
    "circles": "circles:11x7:20mm[:asymmetric]",
    "aprilgrid": "aprilgrid:6x6:88mm:26.4mm[:DICT_APRILTAG_36h11][:topdown]",
}

_LENGTH = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*(mm|cm|m|inch|in)")
_GRID = re.compile(r"(\d+)\s*x\s*(\d+)", re.IGNORECASE)


MAX_LENGTH = 100.0
"""m; no square or marker is as large."""


@dataclass(frozen=True)
class Board:
    """A flat calibration board."""

    kind: Kind
    columns: int
    """Squares (charuco), inner corners (chessboard), circles or tags along x."""
    rows: int
    """The same along y."""
    square: float
    """m: side of a square, distance of circles, or side of a tag's black border."""
    marker: float = 0.0
    """m: side of a ChArUco marker; of an AprilGrid the gap between tags."""
    dictionary: str = ""
    """OpenCV's name of the marker dictionary, DICT_..."""
    inverted: bool = False
    """Printed white on black."""
    legacy: bool = False
    """ChArUco as OpenCV before 4.6 drew it: with an even number of rows a white first square."""
    asymmetric: bool = False
    """Circles: every other row is shifted by half a step, OpenCV's asymmetric grid."""
    topdown: bool = False
    """AprilGrid: tag numbers begin at the top left, not at the bottom left as Kalibr has it."""

    def points(self) -> np.ndarray:
        """(P, 3) float64, metres, board frame; row by row from the top left. z is 0.

        An AprilGrid has four per tag, by tag number, clockwise from the tag's upper left corner.
        """
        if self.kind == "aprilgrid":
            return self._tag_points()
        columns, rows = self.grid
        y, x = np.divmod(np.arange(columns * rows), columns)
        if self.asymmetric:
            # OpenCV's layout: neighbours in a row are two steps apart, odd rows one step right.
            xy = np.stack([2 * x + y % 2, y], axis=1)
        else:
            xy = np.stack([x, y], axis=1)
        return np.column_stack([xy * self.square, np.zeros(len(xy))])

    @property
    def grid(self) -> tuple[int, int]:
        """Columns and rows of points; a ChArUco board has them between its squares."""
        if self.kind == "charuco":
            return self.columns - 1, self.rows - 1
        if self.kind == "aprilgrid":
            return 2 * self.columns, 2 * self.rows
        return self.columns, self.rows

    @property
    def size(self) -> tuple[float, float]:
        """m: width and height of the printed pattern, without a margin."""
        if self.kind == "charuco":
            return self.columns * self.square, self.rows * self.square
        if self.kind == "chessboard":
            return (self.columns + 1) * self.square, (self.rows + 1) * self.square
        extent = np.ptp(self.points()[:, :2], axis=0)
        # Circles have half a step of radius at most; Kalibr's black corner squares fill one gap.
        rim = self.square if self.kind == "circles" else 2 * self.marker
        return float(extent[0] + rim), float(extent[1] + rim)

    def turned_alike(self) -> bool:
        """Whether the board looks the same when it is turned by 180 degrees."""
        if self.kind == "chessboard":
            return (self.columns + self.rows) % 2 == 0
        if self.kind == "circles":
            return not self.asymmetric or self.rows % 2 == 0
        return False

    def marker_ids(self) -> range:
        """Numbers of the markers on it; empty for boards without markers."""
        if self.kind == "charuco":
            return range(self.columns * self.rows // 2)
        return range(self.columns * self.rows if self.kind == "aprilgrid" else 0)

    def text(self) -> str:
        """The specification that `parse_board` reads, lengths in mm."""
        parts = [self.kind, f"{self.columns}x{self.rows}", f"{self.square * 1e3:g}mm"]
        if self.kind in ("charuco", "aprilgrid"):
            parts += [f"{self.marker * 1e3:g}mm", self.dictionary]
        for flag in ("asymmetric", "inverted", "legacy", "topdown"):
            if getattr(self, flag):
                parts.append(flag)
        return ":".join(parts)

    def _tag_points(self) -> np.ndarray:
        number = np.arange(self.columns * self.rows)
        row, column = np.divmod(number, self.columns)
        if not self.topdown:
            row = self.rows - 1 - row
        step = self.square + self.marker
        first = np.stack([column, row], axis=1) * step
        corner = np.array([[0, 0], [1, 0], [1, 1], [0, 1]]) * self.square
        xy = (first[:, None] + corner).reshape(-1, 2)
        return np.column_stack([xy, np.zeros(len(xy))])


def is_board_file(text: str) -> bool:
    """Whether this names another tool's file, and is no specification."""
    return Path(text).suffix.lower() in (".toml", ".yaml", ".yml")


def parse_board(text: str) -> Board:
    """A board from its specification, or from another tool's file.

    Args:
        text: see EXAMPLES; or the path of Caliscope's charuco.toml or of Kalibr's target .yaml.
    Raises:
        CalibrationError: not such a specification; says what would be one.
    """
    if is_board_file(text):
        path = Path(text)
        return _caliscope_board(path) if path.suffix.lower() == ".toml" else _kalibr_board(path)
    kind, *parts = [part.strip() for part in text.split(":")]
    kind = kind.lower()
    if kind not in EXAMPLES:
        raise CalibrationError(
            f"board '{text}': unknown kind '{kind}'; write " + ", or ".join(EXAMPLES.values())
        )
    try:
        board = _from_parts(kind, parts)
    except (CalibrationError, IndexError) as error:
        reason = str(error) if isinstance(error, CalibrationError) else "too few parts"
        raise CalibrationError(f"board '{text}': {reason}; write {EXAMPLES[kind]}") from error
    return _checked(board, f"board '{text}'")


def _from_parts(kind: str, parts: list[str]) -> Board:
    grid = _GRID.fullmatch(parts[0])
    if not grid:
        raise CalibrationError(f"'{parts[0]}' is no number of columns and rows such as 9x6")
    columns, rows = int(grid[1]), int(grid[2])
    square, rest = _length(parts[1]), parts[2:]
    if kind == "chessboard":
        _refuse_rest(rest, ())
        return Board("chessboard", columns, rows, square)
    if kind == "circles":
        flags = _refuse_rest(rest, ("asymmetric", "inverted"))
        return replace(Board("circles", columns, rows, square), **flags)  # type: ignore[arg-type]
    marker = _length(rest[0])
    rest = rest[1:]
    if kind == "charuco":
        if not rest:
            raise CalibrationError("the marker dictionary is missing")
        flags = _refuse_rest(rest[1:], ("inverted", "legacy"))
        return Board("charuco", columns, rows, square, marker, _dictionary(rest[0]), **flags)
    dictionary = "DICT_APRILTAG_36h11"
    if rest and rest[0].upper().startswith("DICT"):
        dictionary, rest = _dictionary(rest[0]), rest[1:]
    flags = _refuse_rest(rest, ("topdown", "inverted"))
    return Board("aprilgrid", columns, rows, square, marker, dictionary, **flags)


def _refuse_rest(parts: list[str], known: tuple[str, ...]) -> dict[str, bool]:
    for part in parts:
        if part.lower() not in known:
            raise CalibrationError(f"'{part}' is not understood there")
    return {part.lower(): True for part in parts}


def _length(text: str) -> float:
    match = _LENGTH.fullmatch(text.lower())
    if not match:
        raise CalibrationError(f"'{text}' is no length with its unit such as 35mm")
    return float(match[1]) * UNITS[match[2]]


def _dictionary(text: str) -> str:
    """OpenCV's own spelling of a dictionary's name."""
    import cv2

    known = {n.lower(): n for n in dir(cv2.aruco) if n.startswith("DICT_")}
    name = known.get(text.lower())
    if name is None:
        from calibration.keys import suggestion

        raise CalibrationError(
            f"unknown marker dictionary '{text}'{suggestion(text, known.values())}"
        )
    return name


def _checked(board: Board, where: str) -> Board:
    least = 3 if board.kind != "aprilgrid" else 1
    if board.columns < least or board.rows < least:
        raise CalibrationError(
            f"{where}: {board.columns}x{board.rows} is too small to calibrate; take a larger"
        )
    if board.columns > 200 or board.rows > 200:
        raise CalibrationError(
            f"{where}: {board.columns}x{board.rows} is too large for a board; take a smaller"
        )
    lengths = [board.square, *([board.marker] if board.kind in ("charuco", "aprilgrid") else [])]
    if not all(0 < length < MAX_LENGTH for length in lengths):  # NaN is neither
        raise CalibrationError(
            f"{where}: lengths must be more than zero and less than {MAX_LENGTH:g} m; measure them"
        )
    if board.kind == "charuco" and board.marker >= board.square:
        raise CalibrationError(f"{where}: the marker must be smaller than its square; measure both")
    if board.dictionary:
        from calibration.markers import dictionary_size

        room = dictionary_size(board.dictionary)
        if len(board.marker_ids()) > room:
            raise CalibrationError(
                f"{where}: needs {len(board.marker_ids())} markers, but {board.dictionary} has "
                f"{room}; take a larger dictionary"
            )
    return board


def _caliscope_board(path: Path) -> Board:
    """Caliscope's charuco.toml; its measured square wins over the size of the sheet."""
    from calibration.safe_toml import load_toml

    data = load_toml(path, "charuco.toml of Caliscope")
    data = data["charuco"] if isinstance(data.get("charuco"), dict) else data
    try:
        columns, rows = int(data["columns"]), int(data["rows"])
        square = data.get("square_size_override_cm", data.get("square_size_overide_cm"))
        if square is not None:
            side = float(square) * 0.01
        else:
            unit = UNITS[str(data["units"])]
            sheet = (float(data["board_width"]) / columns, float(data["board_height"]) / rows)
            side = min(sheet) * unit
        board = Board(
            "charuco",
            columns,
            rows,
            side,
            side * float(data["aruco_scale"]),
            _dictionary(str(data["dictionary"])),
            inverted=data.get("inverted") is True,
            legacy=data.get("legacy_pattern") is True,
        )
    except (KeyError, TypeError, ValueError, ArithmeticError) as error:
        raise CalibrationError(
            f"{path}: not a charuco.toml of Caliscope ({error}); give the board in words, "
            f"{EXAMPLES['charuco']}"
        ) from error
    return _checked(board, str(path))


def _kalibr_board(path: Path) -> Board:
    """Kalibr's target file: aprilgrid, checkerboard or circlegrid, in metres."""
    from calibration.safe_yaml import load_yaml

    data: dict[str, Any] = load_yaml(path, "Kalibr target file")
    try:
        kind = data["target_type"]
        if kind == "aprilgrid":
            tag = float(data["tagSize"])
            board = Board(
                "aprilgrid",
                int(data["tagCols"]),
                int(data["tagRows"]),
                tag,
                tag * float(data["tagSpacing"]),
                "DICT_APRILTAG_36h11",
            )
        elif kind == "checkerboard":
            sides = (float(data["colSpacingMeters"]), float(data["rowSpacingMeters"]))
            if abs(sides[0] - sides[1]) > 1e-9:
                raise CalibrationError(f"{path}: the squares are not square; print another board")
            board = Board("chessboard", int(data["targetCols"]), int(data["targetRows"]), sides[0])
        else:
            raise CalibrationError(
                f"{path}: target_type is {kind!r}; use aprilgrid or checkerboard"
            )
    except (KeyError, TypeError, ValueError, ArithmeticError) as error:
        if isinstance(error, CalibrationError):
            raise
        raise CalibrationError(
            f"{path}: not a Kalibr target file ({error}); give the board in words, "
            f"{EXAMPLES['aprilgrid']}"
        ) from error
    return _checked(board, str(path))
