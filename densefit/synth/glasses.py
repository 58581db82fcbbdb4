"""Glasses: a frame of tubes and flat lenses."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from densefit.synth.sampling import Dice
from densefit.synth.shading import mix
from densefit.synth.surfaces import TUBE_SIDES, grid_triangles, tube

RIM_POINTS, TEMPLE_POINTS = 40, 8


@dataclass(frozen=True)
class Glasses:
    """worn: (B,) bool; half: (B, 2) metres, half size of a lens; power: (B,) exponent of the
    superellipse; thick: (B,) metres, radius of the rim; drop, front: (B,) metres; color: (B, 3);
    gloss: (B,); tint: (B,) opacity of the lenses; rimless: (B,) bool; reflect: (B,)."""

    worn: Tensor
    half: Tensor
    power: Tensor
    thick: Tensor
    drop: Tensor
    front: Tensor
    color: Tensor
    gloss: Tensor
    tint: Tensor
    rimless: Tensor
    reflect: Tensor


def sample_glasses(dice: Dice) -> Glasses:
    """One head in five wears glasses; one pair in ten is dark."""
    dark = dice.uniform(0.0, 0.12, 1).expand(-1, 3)
    shade = torch.where(dice.chance(0.65, 1), dark, dice.uniform(0.02, 0.8, 3))
    thin = dice.chance(0.45)
    sun = dice.chance(0.12)
    return Glasses(
        worn=dice.chance(0.2),
        half=torch.stack([dice.uniform(0.021, 0.030), dice.uniform(0.015, 0.025)], 1),
        power=dice.uniform(2.0, 5.0),
        thick=torch.where(thin, dice.uniform(0.0006, 0.0012), dice.uniform(0.0013, 0.0030)),
        drop=dice.uniform(-0.002, 0.008),
        front=dice.uniform(0.018, 0.027),
        color=shade,
        gloss=dice.uniform(0.1, 1.5),
        tint=torch.where(sun, dice.uniform(0.5, 0.97), dice.uniform(0.0, 0.12)),
        rimless=dice.chance(0.1),
        reflect=dice.uniform(0.2, 1.0),
    )


def glasses_frame(
    glasses: Glasses, eyes: Tensor, temple_x: Tensor, ear: Tensor
) -> tuple[Tensor, Tensor]:
    """Tubes of the frame and flat lenses.

    Args:
        eyes: (B, 2, 3) centres of the left and right eyeball; temple_x: (B,) half width of the
            head in front of the ears; ear: (B, 3) where the left temple rests. Head frame.

    Returns:
        frame (B, n, 3) laid out by `glasses_triangles`, lenses (B, 2 * RIM_POINTS, 3): rims.
    """
    device = eyes.device
    angle = torch.arange(RIM_POINTS, device=device) / RIM_POINTS * 2 * math.pi
    power = (2 / glasses.power)[:, None]
    half = torch.minimum(glasses.half, torch.stack(
        [eyes[:, 0, 0] - eyes[:, 1, 0] - 0.012, torch.full_like(power[:, 0], 0.1)], 1
    ) * 0.5)  # fmt: skip
    unit_x = angle.cos().sign() * angle.cos().abs() ** power
    unit_y = angle.sin().sign() * angle.sin().abs() ** power
    rims, tubes = [], []
    for side in (1.0, -1.0):
        eye = eyes[:, 0 if side > 0 else 1]
        x = eye[:, None, 0] + side * (0.001 + half[:, :1] * unit_x)
        y = eye[:, None, 1] - glasses.drop[:, None] + half[:, 1:] * unit_y
        x, y = _inner_corner(x, y, eye, half, side)
        z = eye[:, None, 2] + glasses.front[:, None] - 2.2 * x**2 + 0.12 * (y - eye[:, None, 1])
        rims.append(torch.stack([x, y, z], -1))
        radius = torch.where(glasses.rimless, 0.0002, glasses.thick)
        tubes.append(tube(rims[-1], radius, closed=True))
    left = rims[0]
    hinge = left[:, 3]
    t = torch.linspace(0, 1, TEMPLE_POINTS, device=device)[None, :, None]
    corner = torch.stack([temple_x + 0.002, hinge[:, 1], hinge[:, 2] - 0.012], 1)[:, None]
    rest = torch.stack([temple_x + 0.004, ear[:, 1] + 0.002, ear[:, 2] - 0.01], 1)[:, None]
    path = torch.where(
        t < 0.2, mix(hinge[:, None], corner, t * 5), mix(corner, rest, (t - 0.2) / 0.8)
    )
    mirror = torch.tensor([-1.0, 1.0, 1.0], device=device)
    for sign in (torch.ones_like(mirror), mirror):
        tubes.append(tube(path * sign, glasses.thick * 1.2, closed=False))
    inner = left[:, RIM_POINTS // 2 - 3]
    arc = torch.linspace(-1, 1, TEMPLE_POINTS, device=device)[None, :, None]
    bridge = inner[:, None] * torch.cat([arc, torch.ones_like(arc), torch.ones_like(arc)], -1)
    bridge = bridge + (1 - arc**2) * torch.tensor([0.0, 0.003, 0.002], device=device)
    tubes.append(tube(bridge, glasses.thick, closed=False))
    hidden = ~glasses.worn[:, None, None]
    frame = torch.where(hidden, 0.0, torch.cat(tubes, 1))
    lenses = torch.where(hidden, 0.0, torch.cat(rims, 1))
    return frame, lenses


def _inner_corner(
    x: Tensor, y: Tensor, eye: Tensor, half: Tensor, side: float
) -> tuple[Tensor, Tensor]:
    """Cut the lower inner corner of a lens, where the nose is."""
    inward = ((eye[:, None, 0] - x) * side / half[:, :1]).clamp_min(0)
    below = ((eye[:, None, 1] - y) / half[:, 1:]).clamp_min(0)
    return x + side * 0.25 * half[:, :1] * inward * below, y


def glasses_triangles() -> tuple[Tensor, Tensor]:
    """Triangles of the frame and of the lenses."""
    frame, first = [], 0
    rim = grid_triangles(RIM_POINTS + 1, TUBE_SIDES, closed=True)
    rim = rim % (RIM_POINTS * TUBE_SIDES)
    bar = grid_triangles(TEMPLE_POINTS, TUBE_SIDES, closed=True)
    for triangles, count in (
        (rim, RIM_POINTS), (rim, RIM_POINTS), (bar, TEMPLE_POINTS), (bar, TEMPLE_POINTS),
        (bar, TEMPLE_POINTS),
    ):  # fmt: skip
        frame.append(triangles + first)
        first += count * TUBE_SIDES
    k = torch.arange(1, RIM_POINTS - 1)
    fan = torch.stack([torch.zeros_like(k), k, k + 1], -1)
    return torch.cat(frame), torch.cat([fan, fan + RIM_POINTS])
