"""Noise that materials look up: a tileable volume for skin and cloth, streaks for hair.

Lookups in small textures are faster than sums of sines and have no regular stripes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

VOLUME = 40
"""Cells of the noise volume along each axis; it repeats after that many."""
GRAIN = 256
"""Cells of the plane noise along each axis."""
STREAK_HEIGHT, STREAK_WIDTH = 64, 512


@dataclass(frozen=True)
class Textures:
    """volume: (1, 4, n, n, n) value noise, about N(0, 1), periodic; streaks: (1, 2, h, w)
    lines along the height (channel 0 fine, 1 in clumps), about N(0, 1), periodic; grain:
    (1, 4, n, n) noise in the plane, about N(0, 1), periodic, the same statistics at every point."""

    volume: Tensor
    streaks: Tensor
    grain: Tensor


def make_textures(device: torch.device | str = "cpu") -> Textures:
    """The same textures everywhere: variety comes from where they are looked up."""
    generator = torch.Generator().manual_seed(20240703)
    volume = torch.randn(1, 4, VOLUME, VOLUME, VOLUME, generator=generator)
    volume = F.pad(volume, (0, 1, 0, 1, 0, 1), mode="circular")
    fine = _streaks(generator, across=0.6, along=10.0)
    clumps = _streaks(generator, across=5.0, along=14.0)
    streaks = F.pad(torch.cat([fine, clumps], 1), (0, 1, 0, 1), mode="circular")
    grain = torch.randn(1, 4, GRAIN, GRAIN, generator=generator)
    grain = F.pad(grain, (0, 1, 0, 1), mode="circular")
    return Textures(volume.to(device), streaks.to(device), grain.to(device))


def noise(textures: Textures, position: Tensor, cells_per_metre: Tensor | float) -> Tensor:
    """Smooth noise in space.

    Args:
        position: (B, 3, P) metres.
        cells_per_metre: spatial frequency, a number or (B, 1, 1).

    Returns:
        (B, 4, P): four independent channels, mean 0; standard deviation about 0.6.
    """
    grid = _wrapped((position * (cells_per_metre / VOLUME)).permute(0, 2, 1))[:, None, None]
    volume = textures.volume.expand(len(position), -1, -1, -1, -1)
    return F.grid_sample(volume, grid, align_corners=True)[:, :, 0, 0]


def plane_noise(textures: Textures, plane: Tensor, cells_per_metre: Tensor | float) -> Tensor:
    """As `noise`, at points (B, 2, P) of a plane, metres; six times faster. (B, 4, P)."""
    grid = _wrapped((plane * (cells_per_metre / GRAIN)).permute(0, 2, 1))
    grain = textures.grain.expand(len(plane), -1, -1, -1)
    return F.grid_sample(grain, grid[:, None], align_corners=True)[:, :, 0]


def streak(textures: Textures, across: Tensor, along: Tensor) -> Tensor:
    """Hair-like lines. across, along: (B, P), one period is 1. Returns (B, 2, P)."""
    grid = _wrapped(torch.stack([across, along], -1))
    image = textures.streaks.expand(len(across), -1, -1, -1)
    return F.grid_sample(image, grid[:, None], align_corners=True)[:, :, 0]


def _wrapped(cells: Tensor) -> Tensor:
    """Periods to the coordinates of `grid_sample`; `remainder` is far slower than `floor`."""
    cells = cells.contiguous()
    return (cells - cells.floor()).mul_(2).sub_(1)


def _streaks(generator: torch.Generator, across: float, along: float) -> Tensor:
    """White noise blurred by Gaussians of the given widths in texels, by way of the FFT."""
    white = torch.randn(STREAK_HEIGHT, STREAK_WIDTH, generator=generator)
    fy = torch.fft.fftfreq(STREAK_HEIGHT)[:, None]
    fx = torch.fft.fftfreq(STREAK_WIDTH)[None]
    gain = torch.exp(-2 * torch.pi**2 * ((fy * along) ** 2 + (fx * across) ** 2))
    blurred = torch.fft.ifft2(torch.fft.fft2(white) * gain).real
    return (blurred / blurred.std())[None, None]
