"""Light: an environment panorama, its irradiance as spherical harmonics, and one directional light.

Directions live in the environment's frame (y up). The irradiance of a surface is

    E(n) = sum_lm A_l L_lm Y_lm(n)        (Ramamoorthi and Hanrahan, SIGGRAPH 2001, bands 0 to 2)

with the strongest source taken out of the panorama and treated as a directional light with a
shadow map. Pictures are white balanced and exposed as cameras do it: many for the light, so that
dark skin stays dark, many more or less for the face, as phones and photographers do.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from densefit.errors import InputError
from densefit.synth.pack import PANORAMA_SUFFIXES, linear_pictures, shrunk
from densefit.synth.sampling import Dice

ROWS, COLUMNS = 32, 64
SKIN_LEVEL = 0.34
"""Linear value that a face has where the camera exposes for it."""


@dataclass(frozen=True)
class Light:
    """How a batch is lit.

    panorama: (B, 3, 32, 64) radiance; sh: (B, 9, 3) such that sh_basis(n) @ sh is irradiance / pi;
    sun_direction: (B, 3) towards the light, environment frame; sun_color: (B, 3), irradiance / pi
    of a surface that faces it; rotation: (B, 3, 3) from the view frame (x right, y up, z towards
    the viewer) to the environment's; exposure: (B,); contrast: (B,).
    """

    panorama: Tensor
    sh: Tensor
    sun_direction: Tensor
    sun_color: Tensor
    rotation: Tensor
    exposure: Tensor
    contrast: Tensor


def directions() -> tuple[Tensor, Tensor]:
    """Directions (32, 64, 3) of the panorama's texels, and their solid angles (32, 64)."""
    polar = (torch.arange(ROWS) + 0.5) / ROWS * math.pi
    azimuth = (torch.arange(COLUMNS) + 0.5) / COLUMNS * 2 * math.pi - math.pi
    polar, azimuth = torch.meshgrid(polar, azimuth, indexing="ij")
    unit = torch.stack([polar.sin() * azimuth.sin(), polar.cos(), polar.sin() * azimuth.cos()], -1)
    return unit, polar.sin() * (math.pi / ROWS) * (2 * math.pi / COLUMNS)


def sh_basis(normal: Tensor) -> Tensor:
    """(..., 9) real spherical harmonics of unit vectors (..., 3)."""
    x, y, z = normal.unbind(-1)
    one = torch.full_like(x, 0.282095)
    return torch.stack(
        [
            one, 0.488603 * y, 0.488603 * z, 0.488603 * x, 1.092548 * x * y, 1.092548 * y * z,
            0.315392 * (3 * z * z - 1), 1.092548 * x * z, 0.546274 * (x * x - y * y),
        ],
        -1,
    )  # fmt: skip


def rotated(coefficients: Tensor, rotation: Tensor) -> Tensor:
    """Coefficients (B, 9, 3) of the same light in a frame that `rotation` (B, 3, 3) maps from.

    A rotation maps each band to itself, so agreement on a few directions determines the result.
    """
    unit, _ = directions()
    some = unit[2::4, ::8].reshape(-1, 3).to(coefficients)
    inverse = torch.linalg.pinv(sh_basis(some))
    return inverse @ sh_basis(some @ rotation.transpose(1, 2)) @ coefficients


def irradiance_coefficients(panorama: Tensor) -> Tensor:
    """(B, 9, 3) coefficients of irradiance / pi of panoramas (B, 3, 32, 64)."""
    unit, solid_angle = directions()
    weights = sh_basis(unit) * solid_angle[..., None]
    radiance = torch.einsum("bchw,hwk->bkc", panorama, weights)
    band = torch.tensor([1.0] + [2 / 3] * 3 + [1 / 4] * 5)
    return radiance * band[:, None]


def lookup(panorama: Tensor, direction: Tensor) -> Tensor:
    """Radiance (B, 3, P) seen along directions (B, P, 3) of the environment frame."""
    x, y, z = direction.unbind(-1)
    grid = torch.stack([torch.atan2(x, z) / math.pi, torch.acos(y.clamp(-1, 1)) / math.pi * 2 - 1])
    return torch.nn.functional.grid_sample(
        panorama, grid.permute(1, 2, 0)[:, None], align_corners=False, padding_mode="border"
    )[:, :, 0]


def load_environments(folder: Path) -> Tensor:
    """All .hdr and .exr panoramas of a folder or a packed file as (N, 3, 32, 64), linear.

    Raises:
        InputError: there is none, one cannot be read, or OpenCV is missing and they are not packed.
    """
    maps = []
    for name, image in linear_pictures(folder, PANORAMA_SUFFIXES):
        if image is None:
            raise InputError(f"{name}: cannot be read as a panorama")
        maps.append(np.clip(shrunk(image, ROWS, COLUMNS), 0, 5e4))
    if not maps:
        raise InputError(f"{folder}: no .hdr or .exr panoramas here")
    return torch.tensor(np.stack(maps)).permute(0, 3, 1, 2).contiguous()


def procedural_environments(dice: Dice) -> Tensor:
    """(B, 3, 32, 64): sky and ground, or a room with windows and lamps."""
    unit, _ = directions()
    y = unit[..., 1]
    warm, cool = torch.tensor([1.0, 0.86, 0.68]), torch.tensor([0.8, 0.92, 1.1])

    def tint(spread: float) -> Tensor:
        mix = dice.uniform(0, 1, 1)
        return (cool * mix + warm * (1 - mix)) * (1 + spread * dice.normal(3))

    def color(low: float, high: float, spread: float = 0.08) -> Tensor:
        return (tint(spread) * dice.log_uniform(low, high, 1))[:, :, None, None]

    height = y[None, None]
    sharp = dice.log_uniform(2, 15, 1, 1, 1)
    blend = torch.sigmoid((height - dice.uniform(-0.2, 0.2, 1, 1, 1)) * sharp)
    panorama = color(0.2, 1.2) * blend + color(0.05, 0.6, 0.15) * (1 - blend)
    for _ in range(5):  # windows, lamps, bright walls and dark furniture: soft-edged patches
        centre = torch.nn.functional.normalize(
            dice.normal(3) * torch.tensor([1.0, 0.6, 1.0]) + torch.tensor([0, 0.25, 0]), dim=1
        )
        side = torch.nn.functional.normalize(
            torch.linalg.cross(centre, torch.tensor([[0.0, 1.0, 0.0]]).expand_as(centre)), dim=1
        )
        up = torch.linalg.cross(side, centre)
        facing = torch.einsum("hwc,bc->bhw", unit, centre)
        u = torch.einsum("hwc,bc->bhw", unit, side)
        v = torch.einsum("hwc,bc->bhw", unit, up)
        half = dice.log_uniform(0.1, 0.8, 2)
        edge = torch.maximum(u.abs() / half[:, :1, None], v.abs() / half[:, 1:, None])
        mask = torch.sigmoid((1 - edge) * dice.log_uniform(4, 20, 1, 1)) * (facing > 0)
        strength = color(0.05, 12.0)
        shown = (mask * dice.chance(0.7, 1, 1))[:, None]
        panorama = panorama * (1 - shown) + strength * shown
    return panorama.clamp_min(0.01)


def sample_light(dice: Dice, environments: Tensor | None) -> Light:
    """Draw light for a batch; three in four from `environments` (N, 3, 32, 64) where given."""
    panorama = procedural_environments(dice)
    if environments is not None:
        chosen = environments[dice.integers(len(environments))]
        use = dice.chance(0.75, 1, 1, 1)
        panorama = torch.where(use, chosen, panorama)
    turn = dice.uniform(-math.pi, math.pi)
    rotation = torch.zeros(dice.count, 3, 3)
    rotation[:, 0, 0] = rotation[:, 2, 2] = turn.cos()
    rotation[:, 0, 2], rotation[:, 2, 0] = turn.sin(), -turn.sin()
    rotation[:, 1, 1] = 1
    panorama, sun_direction, sun_color = take_out_sun(panorama)
    # Lamps and flashes: a light from anywhere in front that the environment does not show.
    lamp = torch.stack([dice.normal() * 0.8, dice.uniform(-0.2, 1.2), dice.uniform(0.1, 1.2)], 1)
    lamp = torch.nn.functional.normalize(lamp, dim=1)
    lamp = torch.einsum("bij,bj->bi", rotation, lamp)
    own = dice.chance(0.35, 1)
    lamp_color = (1 + 0.1 * dice.normal(3)).clamp_min(0.3) * dice.uniform(0, 1.6, 1)
    sh = irradiance_coefficients(panorama)
    level = sh[:, 0].mean(-1) * 0.282095
    sun_direction = torch.where(own, lamp, sun_direction)
    sun_color = torch.where(own, lamp_color * level[:, None], sun_color)
    camera = Metering(
        sun=dice.uniform(0.3, 2.2), balance=dice.uniform(0.6, 1.0),
        exposure=dice.log_uniform(0.55, 1.25), contrast=dice.uniform(0.85, 1.25),
    )  # fmt: skip
    return metered(camera, panorama, sh, sun_direction, sun_color, rotation)[0]


def exposed_for_skin(dice: Dice, light: Light, skin: Tensor) -> Light:
    """The same light taken by cameras of which two in three meter the face, more or less.

    skin: (B, 3) linear albedo. Where the face alone were metered, any skin would come out as a
    middle tone.
    """
    wanted = (SKIN_LEVEL / skin.mean(1)).clamp(0.7, 6.0)
    share = dice.uniform(0, 0.8) * dice.chance(0.65)
    return replace(light, exposure=light.exposure * wanted**share)


@dataclass(frozen=True)
class Metering:
    """How a camera answers to the light, all (B,): sun: the sun is kept below so many times the
    ambient light; balance: share of the light's tint that white balance removes; exposure and
    contrast of the picture."""

    sun: Tensor
    balance: Tensor
    exposure: Tensor
    contrast: Tensor


def take_out_sun(panorama: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Split panoramas (B, 3, 32, 64) into what is left, the direction (B, 3) and the strength
    (B, 3) of the brightest source."""
    unit, solid_angle = directions()
    luminance = panorama.mean(1)
    flat = luminance.flatten(1)
    peak = flat.argmax(1)
    middle = unit.reshape(-1, 3)[peak]
    near = torch.einsum("hwc,bc->bhw", unit, middle) > 0.94
    cap = 4 * flat.mean(1)[:, None, None, None]
    excess = (panorama - cap).clamp_min(0) * near[:, None]
    power = excess * solid_angle
    total = power.mean(1)
    direction = torch.einsum("bhw,hwc->bc", total, unit) + 1e-6 * middle
    strength = power.sum((2, 3)) / math.pi
    return panorama - excess, torch.nn.functional.normalize(direction, dim=1), strength


def metered(
    camera: Metering, panorama: Tensor, sh: Tensor, sun: Tensor, color: Tensor, rotation: Tensor
) -> tuple[Light, Tensor]:
    """White balance, and bring the light on a face to about one.

    Returns:
        The light, and the gain (B, 3) that was applied to the panorama.
    """
    # What a camera meters: the irradiance of a sphere of directions around the face's front.
    front = torch.einsum("bij,j->bi", rotation, torch.tensor([0.0, 0.25, 0.97]))
    ambient = torch.einsum("bk,bkc->bc", sh_basis(front), sh).clamp_min(1e-3)
    ambient = 0.5 * ambient + 0.5 * sh[:, 0] * 0.282095
    # A sun much stronger than the ambient light leaves black shadows; cameras cannot show it.
    limit = camera.sun[:, None] * ambient.mean(1, keepdim=True)
    color = color * (limit / color.mean(1, keepdim=True).clamp_min(1e-6)).clamp(max=1)
    lit = (front * sun).sum(1, keepdim=True).clamp_min(0.15)
    total = ambient + 0.7 * color * lit
    level = total.mean(1, keepdim=True)
    gain = 1 / (level * (total / level) ** camera.balance[:, None])
    light = Light(
        panorama * gain[:, :, None, None], sh * gain[:, None], sun, color * gain, rotation,
        camera.exposure, camera.contrast,
    )  # fmt: skip
    return light, gain


def tone_map(linear: Tensor, contrast: Tensor) -> Tensor:
    """Exposed linear light (B, 3, H, W) to display values in [0, 1]: shoulder, contrast, sRGB."""
    knee = 0.5
    over = (linear - knee).clamp_min(0)
    linear = linear.clamp(0, knee) + (1 - knee) * (1 - torch.exp(-over / (1 - knee)))
    pivot = 0.18
    linear = pivot * (linear / pivot).clamp_min(1e-6) ** contrast[:, None, None, None]
    return torch.where(
        linear <= 0.0031308, 12.92 * linear, 1.055 * linear.clamp_min(1e-6) ** (1 / 2.4) - 0.055
    ).clamp(0, 1)
