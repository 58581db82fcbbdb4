"""Where training crops lie: random homographies around the face, as the predictor will crop it."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from densefit.train.random import Draws
from densefit.train.warp import Warp


@dataclass(frozen=True)
class CropOptions:
    """How training crops scatter around the box of the landmarks."""

    tight_fraction: float = 0.6
    """share of crops like the predictor's second pass; the others are like its first"""
    tight_ratio: tuple[float, float] = (1.3, 1.6)
    """side of a tight crop over the larger side of the landmark box"""
    loose_ratio: tuple[float, float] = (1.15, 2.1)
    """the same for crops as a detector gives them"""
    tight_shift: float = 0.04
    """standard deviation of the crop's centre over the side of the box"""
    loose_shift: float = 0.11
    """the same for loose crops"""
    tight_roll: float = 0.15
    """standard deviation of the roll left after following, radians"""
    loose_roll: float = 0.6
    """largest extra roll of a loose crop, radians"""
    aspect: float = 0.04
    """standard deviation of log(width / height)"""
    perspective: float = 0.05
    """standard deviation of the two projective terms"""


def random_crops(
    centre: Tensor, side: Tensor, roll: Tensor, draws: Draws, options: CropOptions
) -> Tensor:
    """Homographies (B, 3, 3) from crop units to units of the rendered picture.

    centre (B, 2), side (B,), roll (B,): landmark box and roll of each face. Half of the crops are
    mirrored (the caller exchanges the labels: see `is_mirrored`).
    """
    count = len(centre)
    tight = draws.chance(options.tight_fraction, count)
    ratio = torch.where(
        tight,
        draws.uniform(*options.tight_ratio, count),
        draws.uniform(*options.loose_ratio, count),
    )
    half = side * ratio / 2
    shift = torch.where(tight, options.tight_shift, options.loose_shift)
    position = centre + draws.normal(1.0, count, 2).clamp(-2, 2) * (shift * side)[:, None]
    extra = draws.uniform(-options.loose_roll, options.loose_roll, count)
    extra = extra * draws.chance(0.6, count)
    angle = torch.where(tight, roll + draws.normal(options.tight_roll, count), extra)
    aspect = torch.exp(draws.normal(options.aspect, count) / 2)
    mirror = torch.where(draws.chance(0.5, count), -1.0, 1.0)
    bend = draws.normal(options.perspective, count, 2) * draws.chance(0.5, count)[:, None]
    return _homography(position, half, angle, aspect, mirror, bend)


def _homography(
    position: Tensor, half: Tensor, angle: Tensor, aspect: Tensor, mirror: Tensor, bend: Tensor
) -> Tensor:
    """Bend (projective), then scale and mirror, then rotate, then move."""
    cos, sin = angle.cos(), angle.sin()
    across, down = half * aspect * mirror, half / aspect
    zero, one = torch.zeros_like(half), torch.ones_like(half)
    affine = torch.stack(
        [
            torch.stack([cos * across, -sin * down, position[:, 0]], -1),
            torch.stack([sin * across, cos * down, position[:, 1]], -1),
            torch.stack([zero, zero, one], -1),
        ],
        1,
    )
    projective = torch.stack(
        [
            torch.stack([one, zero, zero], -1),
            torch.stack([zero, one, zero], -1),
            torch.stack([bend[:, 0], bend[:, 1], one], -1),
        ],
        1,
    )
    return affine @ projective


def is_mirrored(homography: Tensor) -> Tensor:
    """(B,) bool: the homography changes handedness."""
    return torch.linalg.det(homography) < 0


def crop_landmarks(
    landmarks: Tensor, homography: Tensor, mirror_index: Tensor, warp: Warp | None = None
) -> Tensor:
    """Labels (B, 703, 2) of the picture in crop units; mirrored crops swap left and right."""
    # Not `inv`, which asks a GPU whether there is one.
    inverse = torch.linalg.inv_ex(homography).inverse
    points = torch.cat([landmarks, torch.ones_like(landmarks[..., :1])], -1) @ inverse.mT
    points = points[..., :2] / points[..., 2:]
    if warp is not None:
        points = warp.undone(points)
    return torch.where(is_mirrored(homography)[:, None, None], points[:, mirror_index], points)


def crop_pictures(rgba: Tensor, homography: Tensor, size: int, warp: Warp | None = None) -> Tensor:
    """Sample crops (B, 4, size, size) float32 in [0, 1], premultiplied by alpha.

    rgba: (B, S, S, 4) uint8, premultiplied by alpha. Outside the render its last row and column go
    on, so that shoulders that leave the render do not end in a straight cut.
    """
    if rgba.device.type != "cpu" or not opencv_there():
        return sample_with_torch(rgba, homography, size, warp)
    if warp is not None:
        return _sample_warped(rgba.numpy(), sampled_places(homography, size, warp))
    return _sample_with_opencv(rgba.numpy(), homography.numpy(), size)


@functools.cache
def opencv_there() -> bool:
    """Whether crops can be cut by OpenCV, which is the fastest on CPUs; training does without."""
    try:
        import cv2  # noqa: F401
    except ImportError:
        return False
    return True


def sample_with_torch(
    rgba: Tensor, homography: Tensor, size: int, warp: Warp | None = None
) -> Tensor:
    """`crop_pictures` on any device."""
    picture = rgba.permute(0, 3, 1, 2).to(torch.float32) / 255.0
    places = sampled_places(homography, size, warp)
    return functional.grid_sample(picture, places, padding_mode="border", align_corners=False)


def sampled_places(homography: Tensor, size: int, warp: Warp | None) -> Tensor:
    """Where in the picture (its units) each pixel of the crops looks: (B, size, size, 2)."""
    line = (torch.arange(size, device=homography.device) + 0.5) * (2.0 / size) - 1.0
    v, u = torch.meshgrid(line, line, indexing="ij")
    grid = torch.stack([u, v], -1).view(1, -1, 2).expand(len(homography), -1, -1)
    if warp is not None:
        grid = grid + warp.shift(grid)
    grid = torch.cat([grid, torch.ones_like(grid[..., :1])], -1) @ homography.mT
    return (grid[..., :2] / grid[..., 2:]).view(-1, size, size, 2)


def _sample_warped(rgba: np.ndarray, places: Tensor) -> Tensor:
    """The same on a CPU, faster than `grid_sample`."""
    import cv2

    size = places.shape[1]
    scale = rgba.shape[1] / 2
    pixels = (places * scale + (scale - 0.5)).numpy().astype(np.float32)
    crops = np.empty((len(rgba), size, size, 4), np.uint8)
    for crop, picture, at in zip(crops, rgba, pixels, strict=True):
        x, y = np.ascontiguousarray(np.moveaxis(at, -1, 0))
        edge = cv2.BORDER_REPLICATE
        cv2.remap(picture, x, y, cv2.INTER_LINEAR, dst=crop, borderMode=edge)
    return _as_float(crops)


def _as_float(crops: np.ndarray) -> Tensor:
    return torch.from_numpy(crops).permute(0, 3, 1, 2).to(torch.float32).div_(255.0)


def _sample_with_opencv(rgba: np.ndarray, homography: np.ndarray, size: int) -> Tensor:
    """The same on a CPU, where this is ten times faster than `grid_sample`."""
    import cv2

    to_units = _pixels_to_units(size)
    to_pixels = np.linalg.inv(_pixels_to_units(rgba.shape[1]))
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    crops = np.empty((len(rgba), size, size, 4), np.uint8)
    for crop, picture, matrix in zip(crops, rgba, homography.astype(float), strict=True):
        cv2.warpPerspective(
            picture,
            to_pixels @ matrix @ to_units,
            (size, size),
            dst=crop,
            flags=flags,
            borderMode=cv2.BORDER_REPLICATE,
        )
    return _as_float(crops)


def _pixels_to_units(size: int) -> np.ndarray:
    """(3, 3): pixel coordinates (centres at integers) of a square -> -1 .. 1 over its edges."""
    scale = 2.0 / size
    return np.array([[scale, 0, scale / 2 - 1], [0, scale, scale / 2 - 1], [0, 0, 1]])


def placement(centre: Tensor, place: Tensor, scale: Tensor, angle: Tensor) -> Tensor:
    """Homographies (B, 3, 3) from units of a picture to units of a render placed in it.

    centre (B, 2) of the face in the render comes to lie at place (B, 2) of the picture; scale (B,)
    is render units per picture unit; angle (B,) turns the render, radians.
    """
    cos, sin = angle.cos() * scale, angle.sin() * scale
    turn = torch.stack([torch.stack([cos, -sin], -1), torch.stack([sin, cos], -1)], 1)
    offset = centre - (turn @ place[..., None])[..., 0]
    last = torch.eye(3, device=centre.device)[2:].expand(len(centre), 1, 3)
    return torch.cat([torch.cat([turn, offset[..., None]], -1), last], 1)


def place_pictures(rgba: Tensor, homography: Tensor, scale: Tensor, size: int) -> Tensor:
    """Renders drawn into pictures, (B, 4, size, size) float32 premultiplied, else transparent.

    rgba (B, S, S, 4) uint8, homography and scale as from `placement`. The body goes on below the
    render as wide as the render. Renders that shrink are averaged down first.
    """
    out = torch.zeros(len(rgba), 4, size, size, device=rgba.device)
    shrink = scale * rgba.shape[1] / size
    halvings = torch.log2(shrink.clamp(min=1)).round().clamp(0, 3).long()
    # The render becomes the middle of the upper half of a canvas of twice its side.
    half = torch.tensor([[0.5, 0, 0], [0, 0.5, -0.5], [0, 0, 1]], device=rgba.device)
    for times in halvings.unique().tolist():
        chosen = torch.nonzero(halvings == times)[:, 0]
        pictures = rgba[chosen]
        for _ in range(times):
            pictures = _halved(pictures)
        canvas = _with_body(pictures)
        out[chosen] = crop_pictures(canvas, half @ homography[chosen], size)
    return out


def _halved(rgba: Tensor) -> Tensor:
    """(B, S, S, 4) uint8 -> half the side, averaged."""
    even = rgba[:, : rgba.shape[1] // 2 * 2, : rgba.shape[2] // 2 * 2].to(torch.int16)
    rows = even[:, ::2] + even[:, 1::2]
    return ((rows[:, :, ::2] + rows[:, :, 1::2] + 2) // 4).to(torch.uint8)


def _with_body(rgba: Tensor) -> Tensor:
    """(B, S, S, 4) -> (B, 2 S, 2 S, 4): the last row goes on below, transparent elsewhere."""
    count, side = rgba.shape[:2]
    canvas = rgba.new_zeros(count, 2 * side, 2 * side, 4)
    left = side // 2
    canvas[:, :side, left : left + side] = rgba
    canvas[:, side:, left : left + side] = rgba[:, -1:]
    canvas[:, 0] = 0  # or hair that touches the render's upper edge would go on upwards
    return canvas


def cut_at_picture_edge(image: Tensor, draws: Draws) -> None:
    """In place: let a picture's edge run through each crop, its last row or column repeated.

    The predictor pads so where a crop reaches over the edge of the picture.
    """
    size = image.shape[-1]
    for i in range(len(image)):
        side, reach = draws.integer(0, 4), math.ceil(size * draws.number(0.05, 0.3))
        if side == 0:
            image[i, :, :reach] = image[i, :, reach : reach + 1]
        elif side == 1:
            image[i, :, -reach:] = image[i, :, -reach - 1 : -reach]
        elif side == 2:
            image[i, :, :, :reach] = image[i, :, :, reach : reach + 1]
        else:
            image[i, :, :, -reach:] = image[i, :, :, -reach - 1 : -reach]
