"""Things in front of faces: cut-outs, cards, blobs and hands, with labels left as they are.

The network must learn that a landmark behind such a thing is still there, only less certain.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from densefit.train.random import Draws

_EDGE = 0.02  # softness of an occluder's outline, crop units


def pixel_grid(size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """x and y of the pixels of a crop, each (size, size), crop units."""
    line = (torch.arange(size, device=device) + 0.5) * (2.0 / size) - 1.0
    y, x = torch.meshgrid(line, line, indexing="ij")
    return x, y


def card_masks(count: int, size: int, draws: Draws, largest: float = 0.55) -> Tensor:
    """Turned rectangles and ellipses, (count, 1, size, size) in 0..1."""
    x, y = pixel_grid(size, draws.device)
    centre = draws.uniform(-0.95, 0.95, 2, count, 1, 1)
    half = draws.log_uniform(0.06, largest, 2, count, 1, 1)
    angle = draws.uniform(0, math.pi, count, 1, 1)
    dx, dy = x - centre[0], y - centre[1]
    u = (dx * angle.cos() + dy * angle.sin()) / half[0]
    v = (dy * angle.cos() - dx * angle.sin()) / half[1]
    box = torch.maximum(u.abs(), v.abs())
    disc = torch.sqrt(u * u + v * v)
    outline = torch.where(draws.chance(0.5, count, 1, 1), box, disc)
    softness = _EDGE / half.amin(0)
    return ((1 - outline) / softness + 0.5).clamp(0, 1)[:, None]


def hand_masks(count: int, size: int, draws: Draws) -> tuple[Tensor, Tensor]:
    """Hand-like blobs: a palm and five fingers.

    Returns the masks (count, 1, size, size) and, in the same shape, a shading that darkens towards
    the outline (and so between fingers).
    """
    x, y = pixel_grid(size, draws.device)
    centre = torch.stack([draws.uniform(-0.8, 0.8, count), draws.uniform(-0.5, 1.0, count)])
    angle = draws.uniform(-math.pi, math.pi, count, 1, 1)
    scale = draws.uniform(0.28, 0.6, count, 1, 1)
    dx, dy = x - centre[0].view(-1, 1, 1), y - centre[1].view(-1, 1, 1)
    u = (dx * angle.cos() + dy * angle.sin()) / scale
    v = (dy * angle.cos() - dx * angle.sin()) / scale
    depth = 1 - torch.sqrt((u / 0.5) ** 2 + (v / 0.55) ** 2)  # palm: positive inside
    spread = draws.uniform(0.0, 0.22, count, 1, 1)
    for finger in range(5):
        root = (finger - 1.5) * 0.24 if finger < 4 else -0.48
        tilt = (finger - 1.5) * spread if finger < 4 else spread * 0 - 0.9
        tilt = tilt + draws.normal(0.06, count, 1, 1)
        length = draws.uniform(0.35, 1.0, count, 1, 1) * (1.0 if finger < 4 else 0.6)
        base = -0.4 if finger < 4 else 0.0
        along = (u - root) * tilt.sin() - (v - base) * tilt.cos()
        across = (u - root) * tilt.cos() + (v - base) * tilt.sin()
        beyond = along - torch.minimum(along.clamp(min=0), length)
        depth = torch.maximum(depth, 1 - torch.sqrt(across**2 + beyond**2) / 0.13)
    mask = (depth * 0.15 * scale / _EDGE + 0.5).clamp(0, 1)
    shading = 0.55 + 0.45 * (depth * 2.5).clamp(0, 1)
    return mask[:, None], shading[:, None]


def occlude(image: Tensor, fill: Tensor, skin: Tensor, draws: Draws) -> None:
    """In place: put things in front of some of the images (B, 3, S, S).

    fill: (N, 3, S, S) pictures to fill cards with; skin: (B, 3) each face's own skin colour.
    """
    count, _, size, _ = image.shape
    for share in (0.22, 0.16):
        chosen = draws.subset(count, share)
        mask = card_masks(len(chosen), size, draws)
        flat = draws.uniform(0, 1, len(chosen), 3, 1, 1)
        textured = draws.chance(0.5, len(chosen), 1, 1, 1)
        paint = fill[draws.integers(0, len(fill), len(chosen))]
        image[chosen] = torch.lerp(image[chosen], torch.where(textured, paint, flat), mask)
    chosen = draws.subset(count, 0.14)
    mask, shading = hand_masks(len(chosen), size, draws)
    tone = skin[chosen] * draws.uniform(0.75, 1.2, len(chosen), 1)
    paint = (tone[..., None, None] * shading).clamp(0, 1)
    image[chosen] = torch.lerp(image[chosen], paint, mask)
