"""What a face is made of: skin tone, lips, brows, lashes, eyes, teeth. Drawn once per person."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from densefit.synth.sampling import Dice

SKIN_TONES = torch.tensor(
    [
        [232, 196, 174], [226, 184, 156], [216, 170, 138], [209, 158, 122], [184, 130, 95],
        [150, 100, 70], [112, 72, 51], [80, 52, 39], [56, 38, 30],
    ]
).float() / 255  # fmt: skip
"""sRGB of skin in neutral light, from very fair to very dark."""

IRISES = torch.tensor(
    [
        [0.045, 0.022, 0.012], [0.09, 0.045, 0.020], [0.14, 0.08, 0.035], [0.16, 0.12, 0.05],
        [0.13, 0.16, 0.09], [0.14, 0.20, 0.22], [0.15, 0.24, 0.36], [0.22, 0.27, 0.31],
    ]
)  # fmt: skip
"""Linear albedo: dark brown to hazel, green, blue, grey."""
IRIS_WEIGHTS = [4.0, 3.0, 2.0, 1.2, 1.0, 1.0, 1.3, 0.8]


@dataclass(frozen=True)
class Looks:
    """All (B,) unless said; colours (B, 3) are linear albedo.

    offset (B, 3): where in the noise this person lives; mottle, blotches (B, 4): how much pigment
    and blood vary, from broad to fine; flush, freckles, blemishes, bumps: how much of each; shades
    (B, 3): darker around the eyes, around the mouth, on the forehead; creases (B, 5): depths of
    `complexion.CREASES`; oil: strength of highlights; lip_color; lip_paint: opacity of lipstick;
    lip_edge: half the width of the lips' soft outline, metres;
    brow_color; brow_density; brow_width, brow_height: of the painted brow relative to the
    landmarks' outline; lash; liner: dark line along the lids; shadow (B, 3) and shadow_amount:
    eye shadow; moles (B, 5, 2) on the unrolled
    face, mole_size (B, 5) metres; iris; pupil: radius over
    the iris's; sclera; veins; teeth; tongue; stubble: strength of the shaven beard's shadow;
    stubble_lip, patchy: metres by which it reaches over the upper lip, and how ragged it is; wet.
    """

    offset: Tensor
    skin: Tensor
    mottle: Tensor
    blotches: Tensor
    flush: Tensor
    freckles: Tensor
    blemishes: Tensor
    shades: Tensor
    creases: Tensor
    bumps: Tensor
    oil: Tensor
    lip_color: Tensor
    lip_paint: Tensor
    lip_edge: Tensor
    brow_color: Tensor
    brow_density: Tensor
    brow_width: Tensor
    lash: Tensor
    liner: Tensor
    shadow: Tensor
    shadow_amount: Tensor
    moles: Tensor
    mole_size: Tensor
    iris: Tensor
    limbus: Tensor
    pupil: Tensor
    sclera: Tensor
    veins: Tensor
    teeth: Tensor
    tongue: Tensor
    stubble: Tensor
    stubble_lip: Tensor
    patchy: Tensor
    wet: Tensor


def to_linear(srgb: Tensor) -> Tensor:
    """sRGB values in [0, 1] to linear light."""
    return torch.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def sample_skin_tone(dice: Dice) -> Tensor:
    """(B, 3) linear albedo, anywhere between the measured tones, slightly redder or yellower."""
    place = dice.uniform(0, 1) ** 1.6 * (len(SKIN_TONES) - 1.001)
    low = place.long()
    t = (place - low)[:, None]
    tone = to_linear(SKIN_TONES[low] * (1 - t) + SKIN_TONES[low + 1] * t)
    redness, yellowness = dice.normal(1) * 0.06, dice.normal(1) * 0.05
    tint = torch.cat([1 + 0.3 * redness, 1 - redness, 1 - 0.8 * redness - yellowness], 1)
    return (tone * tint * (1 + 0.05 * dice.normal(1))).clamp(0.01, 0.9)


def sample_looks(dice: Dice, hair_color: Tensor, masculine: Tensor) -> Looks:
    """Draw the appearance of a batch of faces; brows go with the hair (B, 3)
    and make-up mostly with feminine faces (masculine: (B,) bool)."""
    skin = sample_skin_tone(dice)
    painted = dice.chance(0.42, 1) & ~masculine[:, None]
    natural = skin * torch.tensor([0.88, 0.55, 0.55]) * dice.uniform(0.75, 1.1, 1)
    rouge = torch.stack(
        [dice.uniform(0.15, 0.6), dice.uniform(0.01, 0.1), dice.uniform(0.02, 0.13)], 1
    )
    made_up = dice.chance(0.55) & ~masculine
    brow = torch.minimum(hair_color, skin * 0.5) * dice.log_uniform(0.5, 1.2, 1)
    iris = IRISES[dice.pick(IRIS_WEIGHTS)] * dice.log_uniform(0.7, 1.6, 1)
    teeth = torch.tensor([0.78, 0.72, 0.62]) + dice.normal(1) * torch.tensor([0.04, 0.05, 0.07])
    return Looks(
        offset=dice.uniform(0, 10, 3),
        skin=skin,
        mottle=dice.log_uniform(0.02, 0.16, 1) * dice.uniform(0, 1, 4),
        blotches=dice.log_uniform(0.02, 0.15, 1) * dice.uniform(0, 1, 4),
        flush=0.8 * dice.uniform(0, 1) ** 2,
        freckles=torch.where(dice.chance(0.18), dice.uniform(0.15, 0.7), torch.zeros(dice.count)),
        blemishes=torch.where(dice.chance(0.3), dice.uniform(0.1, 0.5), torch.zeros(dice.count)),
        shades=_shades(dice),
        creases=dice.uniform(0, 1, 1) ** 1.5 * dice.uniform(0, 0.8, 5),
        bumps=dice.log_uniform(0.01, 0.13),
        oil=dice.uniform(0.2, 1.3),
        lip_color=torch.where(painted, rouge, natural),
        lip_paint=torch.where(painted[:, 0], dice.uniform(0.6, 1.0), dice.uniform(0.2, 1.0)),
        lip_edge=torch.where(
            painted[:, 0], dice.uniform(0.0008, 0.0018), dice.log_uniform(0.0010, 0.0035)
        ),
        brow_color=brow,
        brow_density=torch.where(
            dice.chance(0.06), dice.uniform(0.0, 0.3), dice.uniform(0.45, 1.25)
        ),
        brow_width=dice.uniform(-0.0012, 0.0012),
        lash=torch.where(made_up, dice.uniform(0.8, 1.3), dice.uniform(0.35, 1.1)),
        liner=torch.where(made_up, dice.uniform(0.4, 1.0), dice.uniform(0.1, 0.6)),
        shadow=dice.uniform(0.02, 0.4, 3),
        shadow_amount=torch.where(made_up, dice.uniform(0, 0.5), torch.zeros(dice.count)),
        moles=dice.uniform(-1, 1, 5, 2) * torch.tensor([0.1, 0.1]) - torch.tensor([0.0, 0.03]),
        mole_size=dice.uniform(-0.0014, 0.0020, 5).clamp_min(0),
        iris=iris,
        limbus=dice.uniform(0.2, 1.0),
        pupil=dice.uniform(0.25, 0.62),
        sclera=torch.tensor([0.74, 0.70, 0.67]) * dice.uniform(0.75, 1.1, 1),
        veins=dice.uniform(0, 0.5),
        teeth=teeth.clamp(0.3, 0.85) * dice.uniform(0.8, 1.05, 1),
        tongue=torch.tensor([0.45, 0.17, 0.16]) * dice.uniform(0.7, 1.2, 1),
        stubble=torch.where(
            dice.chance(0.75) & masculine, dice.uniform(0, 1) ** 1.5 * 0.7, torch.zeros(dice.count)
        ),
        stubble_lip=dice.uniform(-0.003, 0.002),
        patchy=dice.log_uniform(0.001, 0.009),
        wet=dice.uniform(0.4, 1.2),
    )


def _shades(dice: Dice) -> Tensor:
    """(B, 3): pigment around the eyes, around the mouth, on the forehead."""
    tired = dice.uniform(0, 1) ** 1.5 * 0.8
    return torch.stack([tired, 0.09 * dice.normal(), 0.07 * dice.normal()], 1)
