"""Headphones: a shell over each ear and a band over the head, as parametric surfaces."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from densefit.synth.sampling import Dice
from densefit.synth.strands import Skull
from densefit.synth.surfaces import TUBE_SIDES, grid_triangles, tube

BAND_POINTS, CUP_COLUMNS = 24, 24
# Profile of a cup: distance from the head over its thickness, radius over its largest.
_CUP_PROFILE = ((-0.2, 0.70), (0.0, 0.92), (0.3, 1.0), (0.75, 0.97), (1.0, 0.80), (1.0, 0.0))


@dataclass(frozen=True)
class Headphones:
    """worn: (B,) bool; radius, thick: (B,) metres of a cup; tall: (B,) height over width of a cup;
    band: (B,) metres, half the width of the band; tilt: (B,) radians by which the band leans back;
    color: (B, 3); gloss: (B,)."""

    worn: Tensor
    radius: Tensor
    thick: Tensor
    tall: Tensor
    band: Tensor
    tilt: Tensor
    color: Tensor
    gloss: Tensor


def sample_headphones(dice: Dice) -> Headphones:
    """One head in twenty wears headphones."""
    grey = dice.log_uniform(0.01, 0.7, 1).expand(-1, 3)
    return Headphones(
        worn=dice.chance(0.05),
        radius=dice.uniform(0.024, 0.040),
        thick=dice.uniform(0.015, 0.035),
        tall=dice.uniform(1.0, 1.35),
        band=dice.uniform(0.004, 0.013),
        tilt=dice.uniform(-0.15, 0.35),
        color=torch.where(dice.chance(0.7, 1), grey, dice.uniform(0.02, 0.8, 3)),
        gloss=dice.uniform(0.0, 1.0),
    )


def headphones(worn: Headphones, ear: Tensor, skull: Skull) -> Tensor:
    """Vertices (B, n, 3) in the head frame, laid out by `headphone_triangles`.

    Args:
        ear: (B, 3) upper root of the left ear; skull: of the scalp that the band goes over.
    """
    device = ear.device
    down = torch.tensor([0.004, -0.022, -0.012], device=device)
    centre = ear + down
    mirror = torch.tensor([-1.0, 1.0, 1.0], device=device)
    left = _cup(worn, centre)
    band = _band(worn, centre, skull)
    points = torch.cat([left, left * mirror, band], 1)
    # What nobody wears lies in one point inside the head.
    return torch.where(worn.worn[:, None, None], points, skull.centre[:, None])


def _cup(worn: Headphones, centre: Tensor) -> Tensor:
    profile = torch.tensor(_CUP_PROFILE, device=centre.device)
    angle = torch.arange(CUP_COLUMNS, device=centre.device) / CUP_COLUMNS * 2 * math.pi
    out = profile[:, :1] * worn.thick[:, None, None] + 0.007
    radius = profile[:, 1:] * worn.radius[:, None, None]
    y = radius * worn.tall[:, None, None] * angle.cos()
    points = torch.stack([out.expand_as(y), y, radius * angle.sin()], -1)
    return (centre[:, None, None] + points).flatten(1, 2)


def _band(worn: Headphones, centre: Tensor, skull: Skull) -> Tensor:
    """A flat tube from cup to cup, a little above the scalp."""
    turn = torch.linspace(-math.pi / 2, math.pi / 2, BAND_POINTS, device=centre.device)[None]
    reach = centre[:, :1] + 0.5 * worn.thick[:, None] + 0.007
    top = skull.centre[:, 1:2] + skull.radii[:, 1:2] + 0.008
    rise = (top - centre[:, 1:2]) * turn.cos().clamp_min(0) ** 0.8
    back = centre[:, 2:] - rise * worn.tilt[:, None].sin()
    path = torch.stack([reach * turn.sin(), centre[:, 1:2] + rise, back.expand_as(rise)], -1)
    round_tube = tube(path, worn.band, closed=False).unflatten(1, (BAND_POINTS, TUBE_SIDES))
    # Seen from above a band is wide, seen from the side thin.
    flat = torch.tensor([0.35, 0.35, 1.0], device=centre.device)
    return (path[:, :, None] + (round_tube - path[:, :, None]) * flat).flatten(1, 2)


def headphone_triangles() -> Tensor:
    """Triangles (F, 3) of both cups and the band."""
    cup = grid_triangles(len(_CUP_PROFILE), CUP_COLUMNS, closed=True)
    count = len(_CUP_PROFILE) * CUP_COLUMNS
    band = grid_triangles(BAND_POINTS, TUBE_SIDES, closed=True)
    return torch.cat([cup, cup + count, band + 2 * count])
