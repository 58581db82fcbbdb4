"""The materials: skin with make-up and cloth, eyes, the inside of the mouth, hair, frames.

Masks are signed distances to the landmarks' own curves, interpolated over the surface and
thresholded per pixel, so lips, brows and irises are exactly where the landmarks say.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from densefit.synth.clothes import Clothes
from densefit.synth.glasses import Glasses
from densefit.synth.hair import Hair
from densefit.synth.headphones import Headphones
from densefit.synth.looks import Looks
from densefit.synth.shading import (
    Lighting,
    Surface,
    dot,
    fresnel,
    highlight,
    lambert,
    mix,
    power,
    smoothstep,
    unit,
)
from densefit.synth.textures import Textures, plane_noise, streak

Mark = Callable[[str], Tensor]
"""Name of an attribute -> its values (B, 1, P) at the pixels."""

SKIN_WRAP = torch.tensor([[0.30], [0.13], [0.08]])
"""Light bleeds through skin, most of all red: the terminator is soft and warm."""


def _column(values: Tensor) -> Tensor:
    """(B,) to (B, 1, 1); (B, 3) to (B, 3, 1)."""
    return values[:, :, None] if values.ndim == 2 else values[:, None, None]


def shade_skin(
    surface: Surface,
    lighting: Lighting,
    looks: Looks,
    hair: Hair,
    clothes: Clothes,
    textures: Textures,
) -> Tensor:
    """Skin of face, ears, scalp and neck, and the torso with its cloth: radiance
    (B, 3, P)."""

    def mark(name: str) -> Tensor:
        return surface.marks[name]

    plane = torch.cat([mark("unrolled_x"), mark("unrolled_y")], 1)
    own = plane + _column(looks.offset)[:, :2]
    coarse = plane_noise(textures, own, 75.0)
    middle = plane_noise(textures, own, 270.0)
    fine = plane_noise(textures, own, 950.0)
    albedo = _complexion(plane, looks, coarse, middle, fine, mark)
    albedo, lips = _make_up(albedo, looks, coarse, middle, fine, mark)
    albedo = _painted_hair(albedo, looks, hair, middle, fine, textures, mark)
    cloth = _cloth_cover(clothes, mark)
    rough = _column(looks.bumps) * (fine[:, :3] + 0.4 * middle[:, 1:4])
    normal = unit(surface.normal + rough * (1 - cloth))
    occlusion = mark("exposure").clamp(0.03, 1)
    root = occlusion.sqrt()
    bleed = torch.cat([mix(root, occlusion, 0.6), occlusion, occlusion], 1)
    wrap = SKIN_WRAP.to(albedo) * (1 - 0.7 * cloth)
    light = lambert(surface, lighting, normal, bleed, wrap)
    albedo = mix(albedo, _fabric(surface, clothes, textures, mark), cloth)
    oil = _column(looks.oil) * (0.55 + mark("oil")) * (1 - cloth) * (0.8 + 0.3 * middle[:, :1])
    oil = oil * (1 + 1.5 * lips)
    shine = highlight(surface, lighting, normal, 16, 64)
    # Rough skin does not turn into a mirror at the silhouette.
    rim = fresnel(dot(normal, surface.view)).clamp_max(0.22)
    sheen = lighting.ambient(_reflected(normal, surface.view)) * rim * occlusion**2
    return albedo * light + (1.6 * shine + 0.55 * sheen) * oil


def _reflected(normal: Tensor, view: Tensor) -> Tensor:
    return unit(2 * dot(normal, view) * normal - view)


def _complexion(
    plane: Tensor, looks: Looks, coarse: Tensor, middle: Tensor, fine: Tensor, mark: Mark
) -> Tensor:
    """Skin tone with blotches, flush, freckles and moles."""
    base = _column(looks.skin)
    tone = 1 + _column(looks.mottle) * (coarse[:, :1] + 0.4 * middle[:, :1] + 0.4 * fine[:, 3:])
    albedo = base * tone.clamp_min(0.4)
    flush = _column(looks.flush) * mark("flush") * (1 + 0.4 * coarse[:, 1:2])
    red = torch.tensor([[1.0], [0.66], [0.62]], device=base.device)
    albedo = albedo * mix(torch.ones_like(red), red, flush.clamp(0, 1))
    tired = mark("orbit") * 0.22
    albedo = albedo * (1 - tired * torch.tensor([[0.75], [1.0], [0.8]], device=base.device))
    spots = smoothstep(0.35, 1.1, fine[:, 2:3] + 0.45 * middle[:, 2:3])
    spots = spots * _column(looks.freckles) * (0.3 + mark("flush"))
    for k in range(looks.moles.shape[1]):
        away = (plane - looks.moles[:, k, :, None]).square().sum(1, keepdim=True)
        size = looks.mole_size[:, k, None, None]
        spots = torch.maximum(spots, smoothstep(size * size, 0.25 * size * size, away) * (size > 0))
    brown = torch.tensor([[0.62], [0.45], [0.35]], device=base.device)
    return albedo * mix(torch.ones_like(brown), brown, spots.clamp(0, 1))


def _make_up(
    albedo: Tensor, looks: Looks, coarse: Tensor, middle: Tensor, fine: Tensor, mark: Mark
) -> tuple[Tensor, Tensor]:
    """Lips, eye shadow, the line along the lids."""
    edge = mark("lip") + 0.0006 * middle[:, :1]
    soft = mix(torch.tensor(0.0022), torch.tensor(0.0010), _column(looks.lip_paint))
    lips = smoothstep(-soft, soft, edge)
    shade = _column(looks.lip_color) * (1 + 0.12 * fine[:, :1] + 0.1 * coarse[:, 1:2])
    albedo = mix(albedo, shade, lips * _column(looks.lip_paint))
    lid = mark("lid")
    shadow = _column(looks.shadow_amount) * smoothstep(0.012, 0.002, lid) * (mark("upper_lid") > 0)
    albedo = mix(albedo, _column(looks.shadow), shadow)
    rim = smoothstep(0.0026, 0.0008, lid) * (0.3 + 0.7 * (mark("upper_lid") > 0))
    dark = _column(looks.brow_color) * 0.5
    albedo = mix(albedo, dark, rim * _column(looks.liner) * 0.9)
    waterline = smoothstep(0.0011, 0.0003, lid) * 0.35
    pink = torch.tensor([[0.95], [0.55], [0.5]], device=albedo.device) * _column(looks.skin)
    return mix(albedo, pink, waterline * (1 - _column(looks.liner))), lips


def _painted_hair(
    albedo: Tensor, looks: Looks, hair: Hair, middle: Tensor, fine: Tensor, textures: Textures,
    mark: Mark,
) -> Tensor:  # fmt: skip
    """Brows in single strokes, stubble, and the scalp between the hairs."""
    across, along = mark("brow_across")[:, 0], mark("brow_along")[:, 0]
    # Hairs lean outwards: strokes run along a slanted coordinate.
    seed = looks.offset[:, :1] * 0.37
    stroke = streak(textures, along * 0.16 - across * 6.0 + seed, across * 30 + along * 0.5)
    place = mark("brow_along")
    # Half as wide as the landmarks' outline; thinning out towards both ends.
    half = 0.0036 * (1 - 0.72 * smoothstep(0.45, 1.0, place)) + _column(looks.brow_width)
    width = half - mark("brow_across").abs() + 0.0007 * stroke[:, :1] + 0.0004 * fine[:, 1:2]
    ends = smoothstep(-0.05, 0.06, place) * smoothstep(1.05, 0.95, place)
    ink = smoothstep(-0.0012, 0.0018, width) * ends * (0.8 + 0.2 * stroke[:, 1:].clamp(-1, 1))
    ink = (ink * _column(looks.brow_density)).clamp(0, 0.96)
    albedo = mix(albedo, _column(looks.brow_color) * (1 + 0.25 * stroke[:, :1]).clamp_min(0.3), ink)

    beard = beard_distance(hair, mark("beard"), mark("goatee"), mark("moustache"))
    kind = _column(hair.beard_kind)
    grows = (kind >= 1).float()
    amount = torch.where(kind >= 1, 0.45 + 0.45 * (kind >= 2), _column(looks.stubble))
    area = torch.where(grows > 0, beard, mark("beard"))
    dots = 0.75 + 0.35 * fine[:, 2:3] + 0.2 * middle[:, 3:]
    ink = smoothstep(-0.004, 0.008, area + 0.003 * middle[:, :1]) * amount * dots
    albedo = mix(albedo, _column(hair.beard_color).clamp_max(0.12), ink.clamp(0, 0.9))

    depth = mark("hairline") - _column(hair.recede) + 0.005 * middle[:, 1:2] + 0.002 * fine[:, :1]
    cover = torch.where(_column(hair.style) == 0, 0.12, 0.9) * (1 - _column(hair.thin))
    ink = smoothstep(-0.004, 0.009, depth) * cover
    return mix(
        albedo, _column(hair.color) * (1 + 0.3 * fine[:, 1:2]).clamp_min(0.3), ink.clamp(0, 1)
    )


def beard_distance(hair: Hair, full: Tensor, chin: Tensor, lip: Tensor) -> Tensor:
    """(B, 1, P): metres inside the outline of this person's kind of beard, from the distances of
    full beard, goatee and moustache (B, 1, P)."""
    kind = _column(hair.beard_kind)
    far = torch.full_like(full, -0.05)
    choices = (
        far, full, torch.maximum(full, lip), torch.maximum(chin, lip), lip,
        torch.maximum(full - 0.008, lip - 0.001),
    )  # fmt: skip
    out = far
    for index, values in enumerate(choices):
        out = torch.where(kind == index, values, out)
    return out


def _cloth_cover(clothes: Clothes, mark: Mark) -> Tensor:
    """(B, 1, P): 1 where the torso is dressed."""
    ring, cosine = mark("ring"), mark("front")
    # Below a collar, cloth begins where the collar stands: higher on the shoulders.
    ring = ring + 0.032 * (1 - cosine.abs()) * (clothes.collar > 0)[:, None, None]
    start = clothes.neck_depth[:, None, None] + clothes.neck_v[:, None, None] * (
        cosine.clamp_min(0) ** 2
    )
    return smoothstep(-0.0006, 0.0006, ring - start)


def _fabric(surface: Surface, clothes: Clothes, textures: Textures, mark: Mark) -> Tensor:
    """Plain, striped, checked or printed cloth (B, 3, P)."""
    place = surface.place
    scale = _column(clothes.scale)
    kind = _column(clothes.pattern)
    wave = torch.sin(place[:, 1:2] * scale * 2 * math.pi).sign()
    wave_x = torch.sin(place[:, :1] * scale * 2 * math.pi).sign()
    printed = smoothstep(0.1, 0.3, plane_noise(textures, place[:, :2], scale)[:, :1])
    amount = torch.where(kind == 1, (wave + 1) / 2, torch.zeros_like(wave))
    amount = torch.where(kind == 2, (wave + wave_x + 2) / 4, amount)
    amount = torch.where(kind == 3, printed, amount)
    color = mix(_column(clothes.color), _column(clothes.second), amount)
    return color * (1 + 0.10 * plane_noise(textures, place[:, :2], 900.0)[:, :1])


def shade_eyes(
    surface: Surface, lighting: Lighting, looks: Looks, axis: Tensor, textures: Textures
) -> Tensor:
    """Sclera, iris with limbal ring, pupil, and the wet surface with its reflections.

    axis: (B, 3, P) unit, where the eye looks, view frame.
    """
    x, y = surface.marks["iris_x"], surface.marks["iris_y"]
    radius = (x * x + y * y).sqrt()  # 1 at the rim of the iris
    angle = torch.atan2(y, x) / (2 * math.pi)
    place = surface.place + _column(looks.offset)
    vein = plane_noise(textures, place[:, :2], 700.0)[:, :1].abs()
    white = _column(looks.sclera) * (1 - 0.10 * (radius - 1).clamp(0, 1))
    red = smoothstep(1.1, 2.0, radius) * _column(looks.veins) * smoothstep(0.5, 0.0, vein)
    white = white * (1 - red * torch.tensor([[0.1], [0.45], [0.42]], device=white.device))
    fibres = streak(textures, angle[:, 0] + looks.offset[:, :1], radius[:, 0] * 0.4)
    iris = _column(looks.iris) * (1 + 0.35 * fibres[:, :1] + 0.2 * fibres[:, 1:]).clamp_min(0.2)
    pupil = _column(looks.pupil)
    iris = iris * (1 + 0.5 * smoothstep(pupil + 0.3, pupil, radius))
    ring = smoothstep(0.72, 0.98, radius) * _column(looks.limbus)
    iris = iris * (1 - 0.75 * ring)
    iris = iris * smoothstep(pupil - 0.05, pupil + 0.05, radius)
    albedo = mix(iris, white, smoothstep(0.94, 1.07, radius))
    occlusion = surface.marks["exposure"].clamp(0.05, 1)
    light = lambert(surface, lighting, surface.normal, occlusion**1.2, 0.15)
    # The cornea bulges: its normals fan out faster than the eyeball's.
    bulge = smoothstep(1.15, 0.6, radius)
    wet = unit(surface.normal + 0.45 * bulge * (surface.normal - axis))
    rim = fresnel(dot(wet, surface.view), 0.03) * _column(looks.wet)
    mirror = lighting.mirrored(wet, surface.view).clamp_max(8.0) * rim * occlusion**2
    glint = highlight(surface, lighting, wet, 512, 2048) * _column(looks.wet)
    return albedo * light + mirror + glint


def shade_mouth(
    surface: Surface, lighting: Lighting, looks: Looks, parts: dict[str, int], textures: Textures
) -> Tensor:
    """Teeth, gums, tongue and the dark behind them."""
    place = surface.place + _column(looks.offset)
    grain = plane_noise(textures, place[:, :2], 500.0)
    part = surface.part[:, None]
    flesh = _column(looks.tongue) * (1 + 0.12 * grain[:, :1])
    gums = flesh * torch.tensor([[1.15], [1.05], [1.0]], device=flesh.device)
    teeth = _column(looks.teeth) * (1 + 0.05 * grain[:, 1:2])
    hollow = 0.35 * flesh
    albedo = torch.where(part == parts["teeth"], teeth, hollow)
    albedo = torch.where(part == parts["tongue"], flesh, albedo)
    albedo = torch.where(part == parts["gums"], gums, albedo)
    # The inner side of the lips is as red as they are, and hidden skin turns dark further in.
    inner_lip = smoothstep(0.002, 0.016, surface.place[:, 2:])
    lining = mix(hollow, _column(looks.lip_color) * 0.8, inner_lip)
    albedo = torch.where(part == parts["mouth"], lining, albedo)
    occlusion = surface.marks["exposure"].clamp(0.01, 1)
    # Enamel lets light through: teeth stay bright where everything around them is dark.
    occlusion = torch.where(part == parts["teeth"], occlusion**0.45, occlusion**1.3)
    sunlit = surface.sunlit[:, None] * occlusion.clamp(0, 1) ** 0.5
    cosine = dot(surface.normal, lighting.sun)
    direct = lighting.sun_color * ((cosine + 0.25) / 1.25).clamp_min(0) * sunlit
    shine = highlight(surface, lighting, surface.normal, 32, 256) * occlusion
    rim = fresnel(dot(surface.normal, surface.view), 0.04)
    sheen = lighting.ambient(_reflected(surface.normal, surface.view)) * rim * occlusion
    ambient = lighting.ambient(surface.normal) * occlusion
    return albedo * (ambient + direct) + (shine + 0.7 * sheen) * _column(looks.wet)


def shade_hair(
    surface: Surface, lighting: Lighting, hair: Hair, tangent: Tensor, textures: Textures
) -> Tensor:
    """Strips of strands and the solid hair below them (Kajiya and Kay, SIGGRAPH 1989).

    tangent: (B, 3, P) along the strands; marks hold across, along, number and kind of the strip.
    """
    along = surface.marks["strip_along"]
    number = surface.marks["strip_number"]
    kind = surface.marks["strip_kind"]
    across = surface.marks["strip_across"]
    strand = streak(textures, (across * 0.012 + number)[:, 0], (along * 0.35 + 7 * number)[:, 0])
    color = mix(_column(hair.color), _column(hair.tip_color), along)
    color = torch.where(kind > 1.5, _column(hair.beard_color), color)
    grey = smoothstep(0.0, 0.5, _column(hair.grey) - 0.5 + 0.35 * strand[:, :1])
    color = mix(color, torch.full_like(color, 0.36), 0.8 * grey)
    color = color * (1 + 0.38 * strand[:, :1] + 0.30 * strand[:, 1:]).clamp_min(0.2)
    color = color * (0.75 + 0.5 * (number * 13.3).remainder(1.0))
    depth = 0.45 + 0.55 * smoothstep(0.0, 0.45, along)
    is_hat = (kind < 0.5) & _column(hair.hat)
    color = torch.where(is_hat, _column(hair.hat_color), color)
    depth = torch.where(kind < 0.5, torch.where(is_hat, 1.0, 0.55), depth)
    normal = surface.normal
    exposed = surface.marks["exposure"]
    light = lambert(surface, lighting, normal, depth * exposed, 0.2)
    half = unit(surface.view + lighting.sun)
    wobble = tangent + normal * (0.12 * strand[:, :1] - 0.08)
    sine = (1 - dot(unit(wobble), half) ** 2).clamp_min(1e-4)
    facing = smoothstep(-0.3, 0.4, dot(normal, lighting.sun))
    lobes = 0.05 * power(sine, 32) + (0.25 * color + 0.01) * power(sine, 8)
    gloss = _column(hair.gloss) * depth * facing * surface.sunlit[:, None] * (~is_hat)
    sheen = lighting.ambient(_reflected(normal, surface.view)) * 0.05 * depth * _column(hair.gloss)
    shine = lighting.sun_color * lobes * gloss + sheen * (~is_hat)
    return color * light + shine


def shade_props(
    surface: Surface, lighting: Lighting, clothes: Clothes, glasses: Glasses,
    headphones: Headphones, textures: Textures,
) -> Tensor:  # fmt: skip
    """Collars (part 0), frames of glasses (part 1) and headphones (part 2)."""
    frame, phones = (surface.part == 1)[:, None], (surface.part == 2)[:, None]
    scarf = _column(clothes.collar) == 5
    cloth = torch.where(scarf, _column(clothes.second), _column(clothes.color)) * (
        1 + 0.12 * plane_noise(textures, surface.place[:, :2], 600.0)[:, :1]
    )
    albedo = torch.where(frame, _column(glasses.color), cloth)
    albedo = torch.where(phones, _column(headphones.color), albedo)
    # A single layer seen from behind answers with its other side.
    normal = surface.normal * torch.where(dot(surface.normal, surface.view) < 0, -1.0, 1.0)
    occlusion = torch.where(frame, 0.9, 0.75)
    light = lambert(surface, lighting, normal, occlusion, 0.1)
    rim = fresnel(dot(normal, surface.view), 0.05)
    mirror = lighting.mirrored(normal, surface.view).clamp_max(8.0) * rim
    shine = highlight(surface, lighting, normal, 32, 256) * 2
    gloss = torch.where(frame, _column(glasses.gloss), 0.0)
    gloss = torch.where(phones, _column(headphones.gloss), gloss)
    return albedo * light + (mirror + shine) * gloss
