"""How surfaces answer to light. Everything works on padded lists of pixels, (B, C, P)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from densefit.synth.light import Light, lookup, rotated

SH_FACTORS = torch.tensor(
    [0.282095, 0.488603, 0.488603, 0.488603, 1.092548, 1.092548, 0.315392, 1.092548, 0.546274]
)
"""The constants of `sh_basis`, taken out of the products that are formed for every pixel."""


@dataclass(frozen=True)
class Surface:
    """What is known of the pixels of one group of materials.

    place: (B, 3, P) metres, position on the template, where make-up and noise live; normal:
    (B, 3, P) and view: (B, 3, P) unit, view frame (x right, y up, z to the viewer); marks:
    attributes by name, (B, 1, P) each; part: (B, P) int64; sunlit: (B, P) in [0, 1].
    """

    place: Tensor
    normal: Tensor
    view: Tensor
    marks: dict[str, Tensor]
    part: Tensor
    sunlit: Tensor


@dataclass(frozen=True)
class Lighting:
    """Light at the pixels of a surface: functions of the normal, with the sun in the view frame."""

    light: Light
    sun: Tensor
    """(B, 3, 1) towards the directional light, view frame."""
    sun_color: Tensor
    """(B, 3, 1)."""
    sh: Tensor
    """(B, 3, 9): irradiance / pi as spherical harmonics of the view frame."""

    def ambient(self, normal: Tensor) -> Tensor:
        """Irradiance / pi of the environment, (B, 3, P), for normals (B, 3, P)."""
        x, y, z = normal.unbind(1)
        basis = torch.stack([
            torch.ones_like(x), y, z, x, x * y, y * z, 3 * z * z - 1, x * z, x * x - y * y,
        ], 1)  # fmt: skip
        return (self.sh @ basis).clamp_min_(0)

    def mirrored(self, normal: Tensor, view: Tensor) -> Tensor:
        """Sharp reflection of the panorama, (B, 3, P)."""
        reflected = unit(2 * dot(normal, view) * normal - view)
        return lookup(self.light.panorama, (self.light.rotation @ reflected).transpose(1, 2))


def make_lighting(light: Light) -> Lighting:
    """Bring the directional light into the view frame."""
    sun = torch.einsum("bij,bi->bj", light.rotation, light.sun_direction)[..., None]
    sh = rotated(light.sh, light.rotation).transpose(1, 2)
    return Lighting(light, sun, light.sun_color[..., None], sh * SH_FACTORS.to(sh))


def unit(vectors: Tensor) -> Tensor:
    """Unit vectors of (B, 3, P); several times faster than a norm over a strided axis."""
    x, y, z = vectors.unbind(1)
    return vectors * torch.rsqrt((x * x + y * y + z * z).clamp_min(1e-16))[:, None]


def dot(a: Tensor, b: Tensor) -> Tensor:
    """(B, 1, P) inner products over the channels."""
    return (a[:, 0] * b[:, 0] + a[:, 1] * b[:, 1] + a[:, 2] * b[:, 2])[:, None]


def smoothstep(low: Tensor | float, high: Tensor | float, value: Tensor) -> Tensor:
    """0 below low, 1 above high, smooth between."""
    t = ((value - low) / (high - low)).clamp(0, 1)
    return t * t * (3 - 2 * t)


def mix(a: Tensor, b: Tensor, t: Tensor | float) -> Tensor:
    """Linear blend."""
    return a + (b - a) * t


def fresnel(cosine: Tensor, base: float = 0.028) -> Tensor:
    """Schlick's approximation."""
    return base + (1 - base) * power(1 - cosine.clamp(0, 1), 4) * (1 - cosine.clamp(0, 1))


def power(base: Tensor, exponent: int) -> Tensor:
    """`base ** exponent` for powers of two, by squaring; ten times faster than `pow`."""
    while exponent > 1:
        base, exponent = base * base, exponent // 2
    return base


def highlight(
    surface: Surface, lighting: Lighting, normal: Tensor, wide: int, narrow: int
) -> Tensor:
    """Specular answer (B, 3, P) to the sun: two normalised Blinn-Phong lobes (exponents: powers
    of two) with Fresnel and shadow, times pi / 4 as the sun's colour is irradiance / pi."""
    half = unit(surface.view + lighting.sun)
    facing = dot(normal, lighting.sun).clamp_min(0)
    cosine = dot(normal, half).clamp_min(0)
    lobes = (0.6 / 32 * (wide + 8)) * power(cosine, wide)
    lobes = lobes + (0.4 / 32 * (narrow + 8)) * power(cosine, narrow)
    strength = lobes * fresnel(dot(surface.view, half)) * facing * surface.sunlit[:, None]
    return lighting.sun_color * strength


def lambert(
    surface: Surface, lighting: Lighting, normal: Tensor, occlusion: Tensor, wrap: Tensor | float
) -> Tensor:
    """Diffuse light (B, 3, P); `wrap` (3, 1) lets it bleed around the terminator per colour."""
    cosine = dot(normal, lighting.sun)
    direct = ((cosine + wrap) / (1 + wrap)).clamp_min(0) * surface.sunlit[:, None]
    return lighting.ambient(normal) * occlusion + lighting.sun_color * direct
