"""Tongues that are put out and bent: up to the nose, down over the chin, to the side.

The head model's tongue only comes straight out, and is narrow. In pictures it is lengthened,
widened, thickened and bent beyond the lips along an arc, with the lips' labels where they are,
behind it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from densefit.synth.sampling import Dice
from densefit.synth.shading import smoothstep

OUT = 0.3
"""tongueOut from which a tongue is bent."""
LEAST = 0.012
"""Metres that a tongue comes out by, before it is lengthened: how much of it is beyond the lips."""
GROWS = 0.012
"""Metres behind the lips over which it becomes as broad and thick as it is before them."""
_BLUR = 0.004
"""Metres along the tongue over which its middle is measured where it leaves the mouth."""


def sample_tongue(dice: Dice, out: Tensor) -> Tensor:
    """(B, 5) how tongues are bent: angle upwards and to the left (radians, of the whole part that
    is out), the length of that part, metres, and what its breadth and thickness are multiplied by.

    out: (B,) strength of tongueOut; a tongue that is in stays as it is, with length zero.
    """
    up = torch.where(dice.chance(0.45), dice.uniform(0.3, 2.6), dice.uniform(-1.1, 0.6))
    side = torch.where(dice.chance(0.35), dice.uniform(-1.5, 1.5), 0.15 * dice.normal())
    length = dice.uniform(0.010, 0.036)
    breadth, thickness = dice.uniform(0.95, 1.6), dice.uniform(0.9, 1.7)
    return torch.stack([up, side, length, breadth, thickness], 1) * (out > OUT)[:, None]


def bend_tongue(vertices: Tensor, tongue: Tensor, lips: Tensor, bend: Tensor) -> Tensor:
    """Vertices (B, V, 3) with the part of the tongue that is before the lips bent.

    Args:
        tongue: (T,) int64 its vertices.  lips: (B,) how far forward the lips are, metres.
        bend: (B, 5) as of `sample_tongue`.
    """
    points = vertices[:, tongue]
    out = bend[:, 2:3] > 0
    forward = _put_out(points[..., 2], lips[:, None] + LEAST) - lips[:, None]
    # The tongue's middle where it leaves the mouth; a tongue that stays in has none to speak of.
    weight = torch.exp(-((forward / _BLUR) ** 2)) + 1e-9
    weight = weight / weight.sum(1, keepdim=True)
    middle = (weight[..., None] * points[..., :2]).sum(1)[:, None]
    grown = 1 + smoothstep(-GROWS, 0, forward)[..., None] * (bend[:, None, 3:] - 1)
    beside, above = ((points[..., :2] - middle) * grown).unbind(-1)
    length = bend[:, 2:3].clamp_min(1e-3)
    along = forward.clamp_min(0) / forward.amax(1, keepdim=True) * length
    # First to the side, then up: of a plane arc, turned by the angle that it has reached.
    z, bent_beside = _arc(along, beside, bend[:, 1:2] / length)
    z, bent_above = _arc(z, above, bend[:, :1] / length)
    before = forward > 0
    moved = torch.stack([
        middle[..., 0] + torch.where(before, bent_beside, beside),
        middle[..., 1] + torch.where(before, bent_above, above),
        lips[:, None] + torch.where(before, z, forward),
    ], -1)  # fmt: skip
    changed = vertices.clone()
    changed[:, tongue] = torch.where(out[..., None], moved, points)
    return changed


def _put_out(z: Tensor, least: Tensor) -> Tensor:
    """Places along the tongue (B, T) with the front half stretched until the tip is out."""
    middle = z.quantile(0.4, dim=1, keepdim=True)
    tip = z.amax(1, keepdim=True)
    stretch = ((least - middle) / (tip - middle)).clamp_min(1)
    return torch.where(z > middle, middle + (z - middle) * stretch, z)


def _arc(along: Tensor, off: Tensor, curvature: Tensor) -> tuple[Tensor, Tensor]:
    """Forward and sideways place of points `off` a line that bends towards them."""
    angle = along * curvature
    small = angle.abs() < 1e-4
    safe = torch.where(curvature.abs() < 1e-3, torch.full_like(curvature, 1e-3), curvature)
    ahead = torch.where(small, along, torch.sin(angle) / safe)
    aside = torch.where(small, 0.5 * along * angle, (1 - torch.cos(angle)) / safe)
    return ahead - off * torch.sin(angle), aside + off * torch.cos(angle)
