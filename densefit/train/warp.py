"""Smooth warps of training crops: faces of other proportions than the head models give.

A network that has only seen the faces of two head models answers with faces of theirs: of renders
of scanned people's shapes, fits were a sixth farther from the truth than of people drawn from the
one model, a third than of the other's, alike in all looks and lights. After a warp the nose may be
longer and the mouth lower than in anybody, and only what the picture shows at each place tells
where it is.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from densefit.train.random import Draws

WAVES = 5
LENGTHS = (0.7, 3.0)
"""Wavelengths in crop units, in which a face is about 1.4 wide."""
STRENGTHS = (0.01, 0.06)
"""Standard deviation of the stretch that each wave brings in either direction."""
ROUNDS = 5


@dataclass(frozen=True)
class Warp:
    """Places q of a crop (units of -1 .. 1) show what without a warp lies at q + shift(q).

    push: (B, K, 2) largest shift of each wave; wave: (B, K, 2) radians a crop unit; phase: (B, K).
    """

    push: Tensor
    wave: Tensor
    phase: Tensor

    @staticmethod
    def draw(count: int, share: float, draws: Draws) -> Warp:
        """For a batch of crops; a share of them is warped."""
        length = draws.log_uniform(*LENGTHS, count, WAVES)
        angle = draws.uniform(0, 2 * torch.pi, count, WAVES)
        wave = torch.stack([angle.cos(), angle.sin()], -1) * (2 * torch.pi / length)[..., None]
        strength = draws.uniform(*STRENGTHS, count) * draws.chance(share, count)
        stretch = strength[:, None, None] * draws.normal(1.0, count, WAVES, 2)
        push = stretch * (length / (2 * torch.pi))[..., None]
        return Warp(push, wave, draws.uniform(0, 2 * torch.pi, count, WAVES))

    def shift(self, points: Tensor) -> Tensor:
        """At points (B, N, 2) of the crop: (B, N, 2)."""
        return torch.cos(points @ self.wave.mT + self.phase[:, None]) @ self.push

    def undone(self, points: Tensor) -> Tensor:
        """Where the warp puts what lay at points (B, N, 2): q with q + shift(q) = point."""
        out = points
        for _ in range(ROUNDS):
            out = points - self.shift(out)
        return out
