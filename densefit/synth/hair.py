"""Hair styles, colours and beards as people wear them: what `strands.py` grows."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from densefit.synth.sampling import Dice

SCALP_STRIPS, BEARD_STRIPS = 700, 1100
"""Bands of strands on every head; those not needed have no width."""


@dataclass(frozen=True)
class Style:
    """One row of the table of hair styles; ranges are drawn uniformly.

    weight: how frequent on feminine and on masculine heads; length: metres; comb: weights of
    forward, back, aside, away from the parting, away from the crown; lift: how much the roots stand
    up; gravity: bend per step; curl: metres; shell: metres of solid hair under the strips; volume:
    how far hair may stand off, in radii of the skull; sides: length at the sides over length on
    top; fringe: chance.
    """

    weight: tuple[float, float]
    length: tuple[float, float]
    comb: tuple[float, float, float, float, float]
    lift: tuple[float, float]
    gravity: tuple[float, float]
    curl: tuple[float, float] = (0.0, 0.002)
    shell: tuple[float, float] = (0.002, 0.006)
    sides: tuple[float, float] = (0.8, 1.0)
    fringe: float = 0.0
    gather: float = 0.0
    width: tuple[float, float] = (0.010, 0.016)
    volume: tuple[float, float] = (0.10, 0.22)


STYLES: dict[str, Style] = {
    "bald": Style((0.1, 1.2), (0, 0), (0, 0, 0, 0, 1), (0, 0), (0, 0), shell=(0, 0)),
    "buzz": Style(
        (0.2, 1.5), (0.003, 0.008), (0, 0, 0, 0, 1), (0.6, 1), (0, 0), shell=(0.001, 0.003),
    ),
    "crop": Style(
        (0.6, 3.5), (0.02, 0.05), (0.6, 0, 0.2, 0, 0.6), (0.1, 0.5), (0, 0.1), (0, 0.003),
        (0.003, 0.008), (0.3, 0.9), 0.3, volume=(0.1, 0.28),
    ),
    "up": Style(
        (0.3, 1.6), (0.03, 0.07), (0, 0.6, 0.2, 0, 0.1), (0.3, 0.8), (0, 0.08), (0, 0.004),
        (0.003, 0.010), (0.2, 0.6), volume=(0.35, 0.8),
    ),
    "side": Style(
        (1.0, 2.6), (0.06, 0.13), (0.1, 0.1, 0.9, 0.3, 0.3), (0.05, 0.35), (0.1, 0.35), (0, 0.004),
        (0.004, 0.012), (0.3, 0.9), 0.25, volume=(0.12, 0.32),
    ),
    "back": Style(
        (1.0, 1.4), (0.08, 0.18), (0, 1, 0, 0.1, 0), (0.05, 0.35), (0.08, 0.25), (0, 0.003),
        (0.003, 0.010), (0.6, 1.0), volume=(0.1, 0.25),
    ),
    "bob": Style(
        (2.4, 0.3), (0.14, 0.26), (0, 0, 0.1, 1, 0.5), (0.05, 0.35), (0.2, 0.5), (0, 0.006),
        (0.003, 0.010), (0.9, 1.0), 0.7, width=(0.014, 0.022), volume=(0.08, 0.2),
    ),
    "long": Style(
        (4.0, 0.7), (0.26, 0.48), (0, 0.15, 0.1, 1, 0.3), (0.05, 0.35), (0.2, 0.5), (0, 0.010),
        (0.003, 0.010), (0.9, 1.0), 0.55, width=(0.018, 0.028), volume=(0.07, 0.2),
    ),
    "tied": Style(
        (2.0, 0.3), (0.16, 0.40), (0, 1, 0, 0, 0), (0.0, 0.08), (0.0, 0.02), (0, 0.001),
        (0.001, 0.004), (1, 1), 0.15, gather=1.0, volume=(0.03, 0.05),
    ),
    "curly": Style(
        (1.0, 1.3), (0.05, 0.12), (0.3, 0.1, 0.2, 0.2, 0.7), (0.3, 0.8), (0.05, 0.3),
        (0.006, 0.014), (0.008, 0.022), (0.5, 1.0), 0.3, width=(0.008, 0.012), volume=(0.2, 0.55),
    ),
    "long curly": Style(
        (1.6, 0.4), (0.22, 0.40), (0, 0.1, 0.1, 1, 0.4), (0.3, 0.8), (0.2, 0.4), (0.010, 0.024),
        (0.006, 0.018), (0.9, 1.0), 0.2, width=(0.014, 0.022), volume=(0.2, 0.4),
    ),
    "afro": Style(
        (0.7, 0.8), (0.02, 0.07), (0, 0, 0, 0, 0.15), (1.5, 2.5), (0, 0.03), (0.006, 0.012),
        (0.015, 0.060), (0.5, 1.0), width=(0.006, 0.010), volume=(0.9, 1.0),
    ),
}  # fmt: skip

PIGMENTS = torch.tensor(
    [
        [0.010, 0.008, 0.007], [0.020, 0.014, 0.011], [0.045, 0.026, 0.016],
        [0.085, 0.047, 0.025], [0.16, 0.095, 0.048], [0.30, 0.20, 0.105],
        [0.46, 0.35, 0.21], [0.20, 0.060, 0.022], [0.34, 0.33, 0.32], [0.62, 0.61, 0.59],
    ]
)  # fmt: skip
"""Linear albedo of hair: black to brown to blond, red, grey, white."""
PIGMENT_WEIGHTS = [3.0, 3.0, 2.5, 2.0, 1.5, 1.2, 0.8, 0.6, 1.2, 0.6]


@dataclass(frozen=True)
class Hair:
    """Hair of a batch, the same in every picture of a person.

    All (B,) unless said: style index; masculine (bool); length, width, curl, shell metres; comb
    (B, 5); lift; gravity; sides; fringe (bool), fringe_length metres; gather; messy: disorder;
    volume: radii; part: x of the parting over the skull's half width; aside: -1 or 1; recede:
    metres by which the hairline stands back; thin: share of roots lost; color (B, 3), tip_color
    (B, 3); grey: share of grey hairs; gloss; hat (bool); beard_length metres; beard_kind index;
    strand_root (B, N) and strand_noise (B, N, 8) likewise for the beard.
    """

    style: Tensor
    masculine: Tensor
    length: Tensor
    width: Tensor
    curl: Tensor
    shell: Tensor
    comb: Tensor
    lift: Tensor
    gravity: Tensor
    sides: Tensor
    fringe: Tensor
    fringe_length: Tensor
    gather: Tensor
    messy: Tensor
    volume: Tensor
    part: Tensor
    aside: Tensor
    recede: Tensor
    thin: Tensor
    color: Tensor
    tip_color: Tensor
    grey: Tensor
    gloss: Tensor
    hat: Tensor
    hat_color: Tensor
    beard_color: Tensor
    beard_length: Tensor
    beard_kind: Tensor
    strand_root: Tensor
    strand_noise: Tensor
    beard_root: Tensor
    beard_noise: Tensor


BEARDS = {"none": 5.0, "stubble": 2.0, "full": 1.8, "goatee": 0.8, "moustache": 0.7, "patchy": 0.7}


def sample_hair(dice: Dice, scalp_roots: int, beard_roots: int) -> Hair:
    """Draw hair styles, colours and beards; roots are indices into the head's root tables."""
    styles = list(STYLES.values())
    masculine = dice.chance(0.55)
    style = torch.where(
        masculine,
        dice.pick([s.weight[1] for s in styles]),
        dice.pick([s.weight[0] for s in styles]),
    )

    def between(name: str) -> Tensor:
        table = torch.tensor([getattr(s, name) for s in styles])[style]
        return table[:, 0] + dice.uniform(0, 1) * (table[:, 1] - table[:, 0])

    pigment = PIGMENTS[dice.pick(PIGMENT_WEIGHTS)]
    color = (pigment * dice.log_uniform(0.7, 1.4, 1) * (1 + 0.08 * dice.normal(3))).clamp_min(0.004)
    dyed = dice.chance(0.03, 1)
    color = torch.where(dyed, dice.uniform(0.02, 0.5, 3), color)
    tips = color * torch.where(dice.chance(0.25, 1), dice.log_uniform(1.0, 2.5, 1), 1.0)
    comb = torch.tensor([s.comb for s in styles])[style] + 0.15 * dice.normal(5).abs()
    fringe = dice.uniform(0, 1) < torch.tensor([s.fringe for s in styles])[style]
    beard = dice.pick(list(BEARDS.values())) * masculine
    hat = dice.chance(0.05)
    length = between("length")
    balding = dice.chance(0.25) & masculine & (length < 0.07)
    return Hair(
        style=style,
        masculine=masculine,
        length=length,
        width=between("width"),
        curl=between("curl"),
        shell=between("shell"),
        comb=comb,
        lift=between("lift"),
        gravity=between("gravity"),
        sides=between("sides"),
        fringe=fringe,
        fringe_length=dice.uniform(0.035, 0.065),
        gather=torch.tensor([s.gather for s in styles])[style],
        messy=dice.uniform(0.1, 1.1),
        volume=between("volume"),
        part=dice.normal() * 0.35,
        aside=dice.chance(0.5).float() * 2 - 1,
        recede=torch.where(balding, dice.uniform(0.005, 0.06), dice.normal() * 0.005),
        thin=torch.where(balding, dice.uniform(0, 0.5), dice.uniform(0, 0.05)),
        color=color,
        tip_color=tips,
        grey=torch.where(dice.chance(0.25), dice.uniform(0, 0.6), torch.zeros(dice.count)),
        gloss=dice.uniform(0.2, 1.3),
        hat=hat,
        hat_color=dice.uniform(0.02, 0.9, 3) ** 2,
        beard_color=color * dice.log_uniform(0.6, 1.2, 1),
        beard_length=torch.where(
            dice.chance(0.25), dice.uniform(0.015, 0.06), dice.uniform(0.003, 0.015)
        ),
        beard_kind=beard,
        strand_root=dice.integers(scalp_roots, SCALP_STRIPS),
        strand_noise=dice.uniform(0, 1, SCALP_STRIPS, 8),
        beard_root=dice.integers(beard_roots, BEARD_STRIPS),
        beard_noise=dice.uniform(0, 1, BEARD_STRIPS, 8),
    )
