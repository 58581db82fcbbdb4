"""Skin as people have it: blotches, blood and pigment, freckles, spots, creases, shaven beards.

Everything here is colour. Creases darken a line and brighten its lower edge, as the light of most
rooms does; they deepen with the expressions that fold them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from densefit.head.model import EXPRESSION_INDEX
from densefit.synth.looks import Looks
from densefit.synth.shading import mix, smoothstep
from densefit.synth.textures import Textures, plane_noise

Mark = Callable[[str], Tensor]
"""Name of an attribute -> its values (B, 1, P) at the pixels."""

MELANIN = torch.tensor([[0.55], [0.90], [1.20]])
BLOOD = torch.tensor([[0.30], [1.15], [0.95]])
"""Absorption of red, green and blue by a little more pigment or blood in the skin."""
OCTAVES = (22.0, 75.0, 270.0, 950.0)
"""Cells a metre of the noise that skin varies with: from half a cheek to a pore."""

_FOLDING: dict[str, tuple[str, ...]] = {
    "forehead": ("browInnerUp", "browOuterUpLeft", "browOuterUpRight"),
    "crow's feet": ("cheekSquintLeft", "cheekSquintRight", "eyeSquintLeft", "eyeSquintRight"),
    "smile": ("mouthSmileLeft", "mouthSmileRight", "noseSneerLeft", "noseSneerRight"),
    "frown": ("browDownLeft", "browDownRight"),
    "under the eyes": ("cheekSquintLeft", "cheekSquintRight"),
}
CREASES = tuple(_FOLDING)
"""The creases whose depth `Looks.creases` holds, and the expressions that deepen them."""


@dataclass(frozen=True)
class Grain:
    """Noise of one person's skin at the pixels, (B, 4, P) each, about N(0, 0.6)."""

    broad: Tensor
    coarse: Tensor
    middle: Tensor
    fine: Tensor


def column(values: Tensor) -> Tensor:
    """(B,) to (B, 1, 1); (B, 3) to (B, 3, 1)."""
    return values[:, :, None] if values.ndim == 2 else values[:, None, None]


def grain_at(plane: Tensor, looks: Looks, textures: Textures) -> Grain:
    """Noise at points (B, 2, P) of the unrolled face, metres, of these people."""
    own = plane + column(looks.offset)[:, :2]
    return Grain(*(plane_noise(textures, own, octave) for octave in OCTAVES))


def crease_depths(looks: Looks, expression: Tensor) -> Tensor:
    """(B, 5): how deep each of CREASES is in these faces; expression (B, 52)."""
    folded = [
        expression[:, [EXPRESSION_INDEX[name] for name in names]].mean(1)
        for names in _FOLDING.values()
    ]
    return looks.creases * (0.3 + 1.2 * torch.stack(folded, 1).clamp(0, 1))


def complexion(plane: Tensor, looks: Looks, creases: Tensor, grain: Grain, mark: Mark) -> Tensor:
    """Albedo (B, 3, P) of bare, shaven skin; creases (B, 5) as of `crease_depths`."""
    melanin = _varied(looks.mottle, grain, 0)
    blood = _varied(looks.blotches, grain, 1)
    tired, mouth, forehead = (column(looks.shades[:, k]) for k in range(3))
    melanin = melanin + 0.6 * tired * mark("orbit")
    around_mouth = torch.maximum(mark("goatee"), mark("moustache"))
    melanin = melanin + mouth * smoothstep(-0.012, 0.006, around_mouth)
    melanin = melanin + forehead * smoothstep(0.020, 0.055, mark("corner_y"))
    flush = column(looks.flush) * mark("flush") * (1 + 0.6 * grain.coarse[:, 1:2])
    blood = blood + 0.5 * flush.clamp_min(0) + 0.3 * tired * mark("orbit")
    sore = grain.middle[:, 1:2] + 0.5 * grain.coarse[:, 3:]
    blood = blood + column(looks.blemishes) * smoothstep(1.05, 1.6, sore)
    dark = MELANIN.to(melanin) * melanin + BLOOD.to(blood) * blood + _creases(creases, grain, mark)
    return _spotted(
        column(looks.skin) * torch.exp(-dark.clamp(-0.5, 1.5)), plane, looks, grain, mark
    )


def _varied(octaves: Tensor, grain: Grain, channel: int) -> Tensor:
    """(B, 1, P): noise with strengths (B, 4) of its octaves."""
    layers = (grain.broad, grain.coarse, grain.middle, grain.fine)
    one = slice(channel, channel + 1)
    return sum(
        (octaves[:, k, None, None] * layer[:, one] for k, layer in enumerate(layers)),
        torch.zeros_like(grain.fine[:, :1]),
    )


def _spotted(albedo: Tensor, plane: Tensor, looks: Looks, grain: Grain, mark: Mark) -> Tensor:
    """Freckles and moles."""
    spots = smoothstep(0.35, 1.1, grain.fine[:, 2:3] + 0.45 * grain.middle[:, 2:3])
    spots = spots * column(looks.freckles) * (0.3 + mark("flush"))
    for k in range(looks.moles.shape[1]):
        away = (plane - looks.moles[:, k, :, None]).square().sum(1, keepdim=True)
        size = looks.mole_size[:, k, None, None]
        spots = torch.maximum(spots, smoothstep(size * size, 0.25 * size * size, away) * (size > 0))
    brown = torch.tensor([[0.62], [0.45], [0.35]], device=albedo.device)
    return albedo * mix(torch.ones_like(brown), brown, spots.clamp(0, 1))


def _line(distance: Tensor, width: float) -> Tensor:
    """A crease across its signed distance: dark in the middle, bright on the negative side."""
    t = distance / width
    return torch.exp(-t * t) - 0.35 * torch.exp(-((t + 2) ** 2))


def _creases(depths: Tensor, grain: Grain, mark: Mark) -> Tensor:
    """(B, 1, P): how much darker creases make the skin, as a logarithm."""
    forehead, feet, smile, frown, bags = (column(depths[:, k]) for k in range(len(CREASES)))
    x, y = mark("corner_x"), mark("corner_y")
    middle = mark("unrolled_x").abs()
    # Over the brows: lines 9 mm apart that wander and break off.
    phase = y / 0.009 + 0.5 * grain.broad[:, 2:3] + 0.12 * grain.coarse[:, 2:3]
    there = smoothstep(0.026, 0.036, y) * smoothstep(0.075, 0.060, y)
    there = there * smoothstep(0.058, 0.035, middle)
    there = there * smoothstep(-0.7, 0.3, grain.broad[:, 3:] + 0.5 * grain.coarse[:, 3:])
    dark = forehead * there * _line((phase - phase.round()) * 0.009, 0.0012)
    # A fan of lines outside the eye's corner.
    radius, angle = (x * x + y * y).sqrt(), torch.atan2(y, x)
    phase = angle / 0.42 + 0.4 * grain.coarse[:, 1:2]
    there = smoothstep(0.004, 0.009, radius) * smoothstep(0.034, 0.014, radius)
    there = there * smoothstep(1.15, 0.7, angle.abs())
    dark = dark + feet * there * _line((phase - phase.round()) * 0.42 * radius, 0.0009)
    # From the wings of the nose past the corners of the mouth.
    along = mark("fold_along")
    there = smoothstep(0.0, 0.15, along) * smoothstep(1.0, 0.6, along)
    dark = dark + smile * there * _line(mark("fold_across") + 0.0012 * grain.coarse[:, :1], 0.0022)
    # Upright between the brows.
    there = smoothstep(0.004, 0.012, y) * smoothstep(0.034, 0.024, y)
    place = middle - 0.008 + 0.0015 * grain.coarse[:, 2:3]
    dark = dark + frown * there * _line(place, 0.0012) * (middle < 0.02)
    there = smoothstep(0.0, -0.2, mark("upper_lid"))
    bag = mark("lid") - 0.0095 - 0.0012 * grain.coarse[:, 1:2]
    return dark + bags * there * _line(-bag, 0.0016)


def shaven(albedo: Tensor, looks: Looks, color: Tensor, grain: Grain, mark: Mark) -> Tensor:
    """The shadow of a shaven or unshaven beard, bluish below the skin and dotted on it.

    color: (B, 3) of the hairs.
    """
    upper = mark("moustache") + column(looks.stubble_lip)
    area = torch.maximum(torch.maximum(mark("beard"), mark("goatee")), upper)
    area = area + column(looks.patchy) * (grain.coarse[:, :1] + 0.5 * grain.broad[:, :1])
    inside = smoothstep(-0.006, 0.008, area + 0.003 * grain.middle[:, :1])
    amount = column(looks.stubble)
    blue = torch.tensor([[0.50], [0.60], [0.72]], device=albedo.device)
    albedo = albedo * mix(torch.ones_like(blue), blue, inside * amount)
    dots = 0.55 + 0.9 * grain.fine[:, 2:3] + 0.35 * grain.middle[:, 3:]
    ink = inside * amount * dots
    return mix(albedo, column(color).clamp_max(0.14), ink.clamp(0, 0.85))
