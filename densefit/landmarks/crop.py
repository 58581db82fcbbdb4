"""The square crop that the network sees, and the way back to pixels of the picture.

A region (`roi`) is (centre x, centre y, side of the square, roll): pixels and radians, clockwise in
the picture. Crop units run from -1 (left, upper edge) to +1 (right, lower edge) of the square.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from densefit.head import HeadModel

# Second-pass crops: side of the square over the larger side of the landmark box.
TIGHT_RATIO = 1.45
CLOSEUP_RATIO = 1.32

# What the close-up shows: words in the names of the regions whose box it is cut around.
_CLOSEUP = ("brow", "lid", "iris", "sclera", "nos", "lips")


@dataclass(frozen=True)
class FaceLayout:
    """What cropping needs to know about the landmarks of a head model.

    box: (B,) int64 indices of the landmarks whose box is cropped (the face, or from the brows to
    the lower lip); ratio: side of a crop over the side of that box;
    upright: (703, 2) float32, the template's landmarks from the front, x right, y down, metres;
    mirror: (703,) int64 index of each landmark's left-right twin; version: landmarks_version.
    """

    box: Tensor
    upright: Tensor
    mirror: Tensor
    version: str
    ratio: float = TIGHT_RATIO

    @staticmethod
    def of(head: HeadModel) -> FaceLayout:
        """The layout of a head model, for crops of the whole face."""
        points = np.asarray(head.landmarks(head.template), np.float32)
        return FaceLayout(
            torch.from_numpy(np.asarray(head.face320, np.int64)),
            torch.from_numpy(points[:, :2] * np.array([1, -1], np.float32)),
            torch.from_numpy(np.asarray(head.mirror_landmarks, np.int64)),
            head.landmarks_version,
        )

    @staticmethod
    def closeup(head: HeadModel) -> FaceLayout:
        """The layout for crops from the brows to the lower lip."""
        box = torch.from_numpy(np.flatnonzero(in_closeup(head.landmark_region, head.region_names)))
        return replace(FaceLayout.of(head), box=box, ratio=CLOSEUP_RATIO)

    def to(self, device: torch.device | str) -> FaceLayout:
        """The same layout with its tensors on another device."""
        moved = (self.box.to(device), self.upright.to(device), self.mirror.to(device))
        return FaceLayout(*moved, self.version, self.ratio)


def in_closeup(region: np.ndarray, names: tuple[str, ...]) -> np.ndarray:
    """(703,) bool: the landmarks that the close-up is cut around."""
    inside = np.array([any(word in name for word in _CLOSEUP) for name in names])
    return inside[np.asarray(region)]


def face_roll(landmarks: Tensor, layout: FaceLayout) -> Tensor:
    """Roll (B,) radians of the face in the picture, from landmarks (B, 703, 2).

    The rotation of the best similarity from the upright template (Umeyama, 1991, two dimensions):
    it stays meaningful on profiles, where the line between the eyes shrinks to a point.
    """
    points = landmarks[:, layout.box]
    points = points - points.mean(1, keepdim=True)
    upright = layout.upright[layout.box]
    upright = upright - upright.mean(0)
    along = (points * upright).sum((1, 2))
    across = (upright[:, 0] * points[..., 1] - upright[:, 1] * points[..., 0]).sum(1)
    return torch.atan2(across, along)


def landmark_box(landmarks: Tensor, layout: FaceLayout, roll: Tensor) -> tuple[Tensor, Tensor]:
    """Centre (B, 2) and larger side (B,) of the face's box in axes turned by roll (B,)."""
    cos, sin = roll.cos()[:, None], roll.sin()[:, None]
    x, y = landmarks[:, layout.box].unbind(-1)
    turned = torch.stack([cos * x + sin * y, cos * y - sin * x], -1)
    low, high = turned.amin(1), turned.amax(1)
    u, v = ((low + high) / 2).unbind(-1)
    cos, sin = cos[:, 0], sin[:, 0]
    centre = torch.stack([cos * u - sin * v, sin * u + cos * v], -1)
    return centre, (high - low).amax(-1)


def crop_around(landmarks: np.ndarray, layout: FaceLayout) -> np.ndarray:
    """Region of interest (B, 4) float64 px around landmarks (B, 703, 2) px."""
    points = torch.as_tensor(landmarks, dtype=torch.float64)
    upright = replace(layout, upright=layout.upright.double())
    roll = face_roll(points, upright)
    centre, side = landmark_box(points, upright, roll)
    return torch.cat([centre, layout.ratio * side[:, None], roll[:, None]], 1).numpy()


_HOLD = np.array([0.04, 0.05, 0.06])
"""Shift over side, logarithm of sides, radians."""


def crop_offsets(wanted: np.ndarray, others: np.ndarray) -> np.ndarray:
    """How far regions (B, 4) are from others (B, 4): (B, 3) shift over the others' side, absolute
    logarithm of the ratio of sides, absolute difference of roll in radians."""
    shift = np.hypot(*(wanted[:, :2] - others[:, :2]).T) / others[:, 2]
    stretch = np.abs(np.log(np.maximum(wanted[:, 2], 1e-6) / others[:, 2]))
    turn = np.abs((wanted[:, 3] - others[:, 3] + np.pi) % (2 * np.pi) - np.pi)
    return np.stack([shift, stretch, turn], 1)


def held(wanted: np.ndarray, last: list[np.ndarray | None]) -> np.ndarray:
    """Regions (B, 4): each the last one (4,) as long as the wanted one (B, 4) is close to it.

    A crop that follows its own noisy landmarks shakes, and the network's answer with it: on a still
    face that is most of the jitter. A crop that is off by 4 % of its side, by 5 % in size or by
    0.06 radians is within what the network was trained on.
    """
    known = np.array([old is not None for old in last])
    if not known.any():
        return wanted.copy()
    nothing = np.array([0.0, 0.0, 1.0, 0.0])
    old = np.stack([nothing if region is None else region for region in last])
    near = known & (crop_offsets(wanted, old) < _HOLD).all(1)
    return np.where(near[:, None], old, wanted)


def cut_crop(picture: np.ndarray, roi: np.ndarray, size: int) -> np.ndarray:
    """Cut the square `roi` (4,) out of a picture (H, W, 3) uint8 -> (size, size, 3) uint8.

    Averages when it shrinks (a plain bilinear cut of a large face would alias), repeats the last
    row or column where the square reaches over the picture's edge.
    """
    import cv2

    x, y, side, roll = (float(value) for value in roi[:4])
    # Blocks of pixels are averaged first, so that samples lie one to two of them apart.
    block = 2 ** int(math.log2(min(max(side / size, 1), *picture.shape[:2])))
    if block > 1:
        picture, x, y = _averaged(picture, x, y, side, roll, block)
    step = side / block / size
    cos, sin, half = math.cos(roll) * step, math.sin(roll) * step, (size - 1) / 2
    # Sample i lies at (i + 0.5) - size / 2 steps from the centre.
    matrix = [[cos, -sin, x - (cos - sin) * half], [sin, cos, y - (sin + cos) * half]]
    return cv2.warpAffine(
        picture,
        np.array(matrix),
        (size, size),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )


def _averaged(
    picture: np.ndarray, x: float, y: float, side: float, roll: float, block: int
) -> tuple[np.ndarray, float, float]:
    """The neighbourhood of a square, each block x block pixels averaged to one; its centre in it.

    Blocks are counted from the picture's corner: a square that moves a little sees the same ones.
    """
    import cv2

    reach = side / 2 * (abs(math.cos(roll)) + abs(math.sin(roll))) + 2 * block
    left, right = _blocks(x - reach, x + reach, block, picture.shape[1])
    top, bottom = _blocks(y - reach, y + reach, block, picture.shape[0])
    part = picture[top * block : bottom * block, left * block : right * block]
    while part.shape[0] > bottom - top:  # halving again and again is far faster than all at once
        shape = (part.shape[1] // 2, part.shape[0] // 2)
        part = cv2.resize(part, shape, interpolation=cv2.INTER_AREA)
    # Pixel 0 covers [-0.5, 0.5], and so does block 0 in units of blocks.
    return part, (x + 0.5) / block - 0.5 - left, (y + 0.5) / block - 0.5 - top


def _blocks(low: float, high: float, block: int, extent: int) -> tuple[int, int]:
    """First and end of the blocks that cover an interval, as far as there are any; at least one."""
    first = min(max(int(low // block), 0), extent // block - 1)
    return first, min(max(int(high // block) + 1, first + 1), extent // block)


def to_picture(landmarks: np.ndarray, roi: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Network output (B, 703, 3) in crop units -> xy (B, 703, 2) px and sigma (B, 703) px.

    roi: (B, 4) regions of interest the crops were cut from.
    """
    roi = np.asarray(roi, np.float64)
    half = roi[:, 2] / 2
    cos, sin = np.cos(roi[:, 3]), np.sin(roi[:, 3])
    turn = np.stack([np.stack([cos, -sin], -1), np.stack([sin, cos], -1)], 1) * half[:, None, None]
    xy = roi[:, None, :2] + landmarks[..., :2] @ turn.transpose(0, 2, 1)
    # Pixel 0 covers [-0.5, 0.5]; the crop's centre already is in that convention.
    return xy, np.exp(landmarks[..., 2]) * half[:, None]
