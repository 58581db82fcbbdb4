"""Shoulders with clothing, and what is worn around the neck, as parametric surfaces."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from densefit.synth.sampling import Dice
from densefit.synth.shading import mix

COLUMNS, TORSO_RINGS, COLLAR_RINGS = 48, 16, 7
COLLARS = ("none", "shirt", "turtleneck", "hood", "crew", "scarf")


@dataclass(frozen=True)
class Clothes:
    """neck_depth, neck_v: (B,) metres below the neckline at which the cloth begins, and how much
    lower in front;
    width: (B,) of the shoulders in metres; slope: (B,); color, second: (B, 3); pattern: (B,)
    index; scale: (B,) stripes a metre; collar: (B,) index into COLLARS; collar_height (B,) metres;
    flare (B,); loose: (B,) metres between skin and cloth; folds: (B,) radians, where the folds of
    a scarf lie."""

    neck_depth: Tensor
    neck_v: Tensor
    width: Tensor
    slope: Tensor
    color: Tensor
    second: Tensor
    pattern: Tensor
    scale: Tensor
    collar: Tensor
    collar_height: Tensor
    flare: Tensor
    loose: Tensor
    folds: Tensor


def sample_clothes(dice: Dice) -> Clothes:
    """Clothes from bare shoulders to turtlenecks."""
    grey = dice.log_uniform(0.015, 0.8, 1).expand(-1, 3)
    vivid = dice.uniform(0.01, 0.9, 3) ** 1.6
    color = torch.where(dice.chance(0.5, 1), grey * (1 + 0.12 * dice.normal(3)), vivid)
    second = torch.where(dice.chance(0.5, 1), 1 - color, dice.uniform(0.02, 0.9, 3))
    collar = dice.pick([3.0, 2.5, 1.4, 1.2, 1.5, 0.9])
    deep = dice.chance(0.25)
    neck_depth = torch.where(deep, dice.uniform(0.02, 0.07), dice.uniform(-0.012, 0.018))
    return Clothes(
        neck_depth=torch.where(collar == 0, neck_depth, torch.full_like(neck_depth, 0.004)),
        neck_v=torch.where(collar == 0, dice.uniform(0, 0.07), 0.02),
        width=dice.uniform(0.185, 0.245),
        slope=dice.uniform(0.02, 0.065),
        color=color.clamp(0.008, 0.85),
        second=second.clamp(0.008, 0.85),
        pattern=dice.pick([5.0, 1.0, 1.0, 1.5]),
        scale=dice.log_uniform(12, 70),
        collar=collar,
        collar_height=dice.uniform(0.02, 0.055),
        flare=dice.uniform(0.0, 0.7),
        loose=dice.uniform(0.002, 0.012),
        folds=dice.uniform(0, 2 * math.pi),
    )


def mean_clothes() -> Clothes:
    """Average clothes, for attributes that must not depend on the person."""
    one = torch.ones(1)
    return Clothes(
        0 * one, 0 * one, 0.215 * one, 0.04 * one, one.expand(1, 3), one.expand(1, 3), 0 * one,
        30 * one, 0 * one, 0.03 * one, 0 * one, 0 * one, 0 * one,
    )  # fmt: skip


def torso(clothes: Clothes, edge: Tensor) -> Tensor:
    """Shoulders below the head model's lower edge.

    Args:
        edge: (B, COLUMNS, 3) the lower edge of the model, head frame before the neck turns,
            column j at the angle 2 pi j / COLUMNS from +z (the front) towards +x.

    Returns:
        (B, TORSO_RINGS * COLUMNS, 3); the second ring lies on the edge.
    """
    device = edge.device
    angle = torch.arange(COLUMNS, device=device) / COLUMNS * 2 * math.pi
    sine, cosine = angle.sin(), angle.cos()
    centre = edge.mean(1, keepdim=True)
    t = torch.linspace(0, 1, TORSO_RINGS, device=device)[None, :, None]
    out = (t / 0.5).clamp(max=1)  # to the rim of the shoulders ...
    fall = ((t - 0.5) / 0.5).clamp(min=0)  # ... and then down
    # The first ring lies inside the head model, so that the seam has no gaps.
    inner = centre + (edge - centre) * 0.93 - torch.tensor([0.0, 0.014, 0.0], device=device)
    start = edge - centre
    width = clothes.width[:, None]
    reach_x = start[..., 0].sign() * torch.maximum(start[..., 0].abs() + 0.02, width * sine.abs())
    reach_z = start[..., 2] + cosine * torch.where(cosine > 0, 0.045, 0.015)
    x = centre[:, None, :, 0] + mix(start[:, None, :, 0], reach_x[:, None], out**1.2)
    z = centre[:, None, :, 2] + mix(start[:, None, :, 2], reach_z[:, None], out)
    x = x * (1 + 0.08 * fall)
    z = z + 0.03 * cosine * fall
    steep = clothes.slope[:, None, None] * out**1.6 * sine.abs() + 0.05 * out * (1 - sine.abs())
    y = edge[:, None, :, 1] - steep - 0.30 * fall**1.3
    points = torch.stack([x, y, z], -1)
    return torch.cat([inner[:, None], points[:, :-1]], 1).flatten(1, 2)


def collar(clothes: Clothes, low: Tensor, high: Tensor) -> Tensor:
    """A band around the neck.

    Args:
        low, high: (B, COLUMNS, 3) points of the skin at the foot of the neck and 44 mm higher.

    Returns:
        (B, COLLAR_RINGS * COLUMNS, 3), bottom to top; collapsed where there is no collar.
    """
    device = low.device
    angle = torch.arange(COLUMNS, device=device) / COLUMNS * 2 * math.pi
    kind = clothes.collar[:, None, None]
    t = torch.linspace(0, 1, COLLAR_RINGS, device=device)[None, :, None]
    height = clothes.collar_height[:, None, None]
    height = torch.where(kind == 2, height * 1.5, torch.where(kind == 4, 0.016, height))
    height = torch.where(kind == 5, height * 1.1 + 0.022, height)
    back = 0.5 - 0.5 * angle.cos()
    height = height * torch.where(kind == 3, 0.4 + 0.8 * back, 0.8 + 0.3 * back)
    # Collars of shirts open in front.
    gap = torch.sigmoid((angle.cos() - 0.94) * 80) * torch.where(kind == 1, 0.5, 0.0)
    rise = height / 0.044 * (t - gap * t)
    points = low[:, None] + (high - low)[:, None] * rise[..., None]
    away = torch.stack([angle.sin(), torch.zeros_like(angle), angle.cos()], -1)
    flare = torch.where(kind == 2, 0.002, 0.004 + 0.02 * clothes.flare[:, None, None])
    flare = torch.where(kind == 3, flare + 0.02, torch.where(kind == 4, 0.003, flare))
    # A scarf bulges, in folds that run around the neck at a slant.
    fold = 0.8 + 0.2 * torch.sin(3 * angle + 9 * t + clothes.folds[:, None, None])
    bulge = (0.012 + 0.03 * clothes.flare[:, None, None]) * (t * (1.15 - t)).clamp_min(0).sqrt()
    flare = torch.where(kind == 5, 2 * bulge * fold / t.clamp_min(0.15), flare)
    # The foot spreads out onto the shoulders.
    foot = 0.012 * (1 - t) ** 3
    points = points + (0.003 + flare * t + foot)[..., None] * away
    points = points - torch.tensor([0.0, 0.6, 0.0], device=device) * foot[..., None]
    hidden = (kind == 0)[..., None]
    collapsed = low.mean(1, keepdim=True)[:, None]
    return torch.where(hidden, collapsed, points).flatten(1, 2)
