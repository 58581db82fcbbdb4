"""Pictures turned and mirrored as their file's display matrix says."""

from __future__ import annotations

from typing import Any

import numpy as np

Orientation = tuple[bool, bool, bool]
"""Swap rows and columns, then reverse the columns, then the rows?"""

UPRIGHT: Orientation = (False, False, False)


def orientation_of(picture: Any) -> Orientation:
    """What an av.VideoFrame's display matrix asks for, to the nearest quarter turn."""
    try:
        data = picture.side_data.get("DISPLAYMATRIX")
    except ValueError:
        # Other data beside it that this PyAV has no name for; the rotation it tells all the same.
        turns = round(picture.rotation / 90) % 4
        return (turns % 2 == 1, turns in (2, 3), turns in (1, 2))
    matrix = bytes(data or b"")
    if len(matrix) != 36:
        return UPRIGHT
    # A pixel at (x, y) is shown at (a x + c y, b x + d y), up to a shift (FFmpeg, display.h).
    a, b, _, c, d = np.frombuffer(matrix, np.int32)[:5].tolist()
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return (False, a < 0, d < 0)
    return (True, c < 0, b < 0)


class Orientations:
    """Those of a video's pictures, looked up once for each rotation that they tell.

    A picture whose side data was read refers to itself, and its memory stays taken until Python
    looks for such circles: too late for thousands of pictures.
    """

    def __init__(self) -> None:
        self._known: dict[int, Orientation] = {}

    def of(self, picture: Any) -> Orientation:
        """As `orientation_of`."""
        rotation = picture.rotation
        if rotation not in self._known:
            self._known[rotation] = orientation_of(picture)
        return self._known[rotation]


def oriented(image: np.ndarray, orientation: Orientation) -> np.ndarray:
    """The picture as it is meant to be seen.

    Args:
        image: (H, W, 3) as stored.
        orientation: as of `orientation_of`.
    Returns:
        (H, W, 3) or (W, H, 3), contiguous.
    """
    swap, columns, rows = orientation
    if swap:
        image = image.transpose(1, 0, 2)
    return np.ascontiguousarray(image[:: -1 if rows else 1, :: -1 if columns else 1])
