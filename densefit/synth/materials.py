"""The materials: skin with make-up and cloth, eyes, the inside of the mouth, hair, frames.

Masks are signed distances to the landmarks' own curves, interpolated over the surface and
thresholded per pixel, so lips, brows and irises are exactly where the landmarks say.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from densefit.synth.clothes import Clothes
from densefit.synth.complexion import Grain, Mark, column, complexion, grain_at, shaven
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

SKIN_WRAP = torch.tensor([[0.30], [0.13], [0.08]])
"""Light bleeds through skin, most of all red: the terminator is soft and warm."""


def shade_skin(
    surface: Surface,
    lighting: Lighting,
    looks: Looks,
    creases: Tensor,
    hair: Hair,
    clothes: Clothes,
    textures: Textures,
) -> Tensor:
    """Skin of face, ears, scalp and neck, and the torso with its cloth: radiance
    (B, 3, P); creases (B, 5) as of `complexion.crease_depths`."""

    def mark(name: str) -> Tensor:
        return surface.marks[name]

    plane = torch.cat([mark("unrolled_x"), mark("unrolled_y")], 1)
    grain = grain_at(plane, looks, textures)
    albedo = complexion(plane, looks, creases, grain, mark)
    albedo, lips = _make_up(albedo, looks, grain, mark)
    albedo = _painted_hair(albedo, looks, hair, grain, textures, mark)
    cloth = _cloth_cover(clothes, mark)
    rough = column(looks.bumps) * (grain.fine[:, :3] + 0.4 * grain.middle[:, 1:4])
    normal = unit(surface.normal + rough * (1 - cloth))
    occlusion = mark("exposure").clamp(0.03, 1)
    root = occlusion.sqrt()
    bleed = torch.cat([mix(root, occlusion, 0.6), occlusion, occlusion], 1)
    wrap = SKIN_WRAP.to(albedo) * (1 - 0.7 * cloth)
    light = lambert(surface, lighting, normal, bleed, wrap)
    albedo = mix(albedo, _fabric(surface, clothes, textures, mark), cloth)
    oil = column(looks.oil) * (0.55 + mark("oil")) * (1 - cloth) * (0.8 + 0.3 * grain.middle[:, :1])
    oil = oil * (1 + 1.5 * lips)
    shine = highlight(surface, lighting, normal, 16, 64)
    # Rough skin does not turn into a mirror at the silhouette.
    rim = fresnel(dot(normal, surface.view)).clamp_max(0.22)
    sheen = lighting.ambient(_reflected(normal, surface.view)) * rim * occlusion**2
    return albedo * light + (1.6 * shine + 0.55 * sheen) * oil


def _reflected(normal: Tensor, view: Tensor) -> Tensor:
    return unit(2 * dot(normal, view) * normal - view)


def _make_up(albedo: Tensor, looks: Looks, grain: Grain, mark: Mark) -> tuple[Tensor, Tensor]:
    """Lips, eye shadow, the line along the lids."""
    edge = mark("lip") + 0.0006 * grain.middle[:, :1]
    soft = column(looks.lip_edge)
    lips = smoothstep(-soft, soft, edge)
    shade = 1 + 0.12 * grain.fine[:, :1] + 0.15 * grain.coarse[:, 1:2]
    shade = column(looks.lip_color) * shade
    albedo = mix(albedo, shade, lips * column(looks.lip_paint))
    lid = mark("lid")
    shadow = column(looks.shadow_amount) * smoothstep(0.012, 0.002, lid) * (mark("upper_lid") > 0)
    albedo = mix(albedo, column(looks.shadow), shadow)
    rim = smoothstep(0.0026, 0.0008, lid) * (0.3 + 0.7 * (mark("upper_lid") > 0))
    dark = column(looks.brow_color) * 0.5
    albedo = mix(albedo, dark, rim * column(looks.liner) * 0.9)
    waterline = smoothstep(0.0011, 0.0003, lid) * 0.35
    pink = torch.tensor([[0.95], [0.55], [0.5]], device=albedo.device) * column(looks.skin)
    return mix(albedo, pink, waterline * (1 - column(looks.liner))), lips


def _painted_hair(
    albedo: Tensor, looks: Looks, hair: Hair, grain: Grain, textures: Textures, mark: Mark
) -> Tensor:
    """Brows in single strokes, stubble, and the scalp between the hairs."""
    middle, fine = grain.middle, grain.fine
    across, along = mark("brow_across")[:, 0], mark("brow_along")[:, 0]
    # Hairs lean outwards: strokes run along a slanted coordinate.
    seed = looks.offset[:, :1] * 0.37
    stroke = streak(textures, along * 0.16 - across * 6.0 + seed, across * 30 + along * 0.5)
    place = mark("brow_along")
    # Half as wide as the landmarks' outline; thinning out towards both ends.
    half = 0.0036 * (1 - 0.72 * smoothstep(0.45, 1.0, place)) + column(looks.brow_width)
    width = half - mark("brow_across").abs() + 0.0007 * stroke[:, :1] + 0.0004 * fine[:, 1:2]
    ends = smoothstep(-0.05, 0.06, place) * smoothstep(1.05, 0.95, place)
    ink = smoothstep(-0.0012, 0.0018, width) * ends * (0.8 + 0.2 * stroke[:, 1:].clamp(-1, 1))
    ink = (ink * column(looks.brow_density)).clamp(0, 0.96)
    albedo = mix(albedo, column(looks.brow_color) * (1 + 0.25 * stroke[:, :1]).clamp_min(0.3), ink)

    albedo = shaven(albedo, looks, hair.beard_color, grain, mark)
    area = beard_distance(hair, mark("beard"), mark("goatee"), mark("moustache"))
    kind = column(hair.beard_kind)
    amount = (kind >= 1) * (0.45 + 0.45 * (kind >= 2))
    dots = 0.75 + 0.35 * fine[:, 2:3] + 0.2 * middle[:, 3:]
    ink = smoothstep(-0.004, 0.008, area + 0.003 * middle[:, :1]) * amount * dots
    albedo = mix(albedo, column(hair.beard_color).clamp_max(0.12), ink.clamp(0, 0.9))

    depth = mark("hairline") - column(hair.recede) + 0.005 * middle[:, 1:2] + 0.002 * fine[:, :1]
    cover = torch.where(column(hair.style) == 0, 0.12, 0.9) * (1 - column(hair.thin))
    ink = smoothstep(-0.004, 0.009, depth) * cover
    return mix(
        albedo, column(hair.color) * (1 + 0.3 * fine[:, 1:2]).clamp_min(0.3), ink.clamp(0, 1)
    )


def beard_distance(hair: Hair, full: Tensor, chin: Tensor, lip: Tensor) -> Tensor:
    """(B, 1, P): metres inside the outline of this person's kind of beard, from the distances of
    full beard, goatee and moustache (B, 1, P)."""
    kind = column(hair.beard_kind)
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
    scale = column(clothes.scale)
    kind = column(clothes.pattern)
    wave = torch.sin(place[:, 1:2] * scale * 2 * math.pi).sign()
    wave_x = torch.sin(place[:, :1] * scale * 2 * math.pi).sign()
    printed = smoothstep(0.1, 0.3, plane_noise(textures, place[:, :2], scale)[:, :1])
    amount = torch.where(kind == 1, (wave + 1) / 2, torch.zeros_like(wave))
    amount = torch.where(kind == 2, (wave + wave_x + 2) / 4, amount)
    amount = torch.where(kind == 3, printed, amount)
    color = mix(column(clothes.color), column(clothes.second), amount)
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
    place = surface.place + column(looks.offset)
    vein = plane_noise(textures, place[:, :2], 700.0)[:, :1].abs()
    white = column(looks.sclera) * (1 - 0.10 * (radius - 1).clamp(0, 1))
    red = smoothstep(1.1, 2.0, radius) * column(looks.veins) * smoothstep(0.5, 0.0, vein)
    white = white * (1 - red * torch.tensor([[0.1], [0.45], [0.42]], device=white.device))
    fibres = streak(textures, angle[:, 0] + looks.offset[:, :1], radius[:, 0] * 0.4)
    iris = column(looks.iris) * (1 + 0.35 * fibres[:, :1] + 0.2 * fibres[:, 1:]).clamp_min(0.2)
    pupil = column(looks.pupil)
    iris = iris * (1 + 0.5 * smoothstep(pupil + 0.3, pupil, radius))
    ring = smoothstep(0.72, 0.98, radius) * column(looks.limbus)
    iris = iris * (1 - 0.75 * ring)
    iris = iris * smoothstep(pupil - 0.05, pupil + 0.05, radius)
    albedo = mix(iris, white, smoothstep(0.94, 1.07, radius))
    occlusion = surface.marks["exposure"].clamp(0.05, 1)
    light = lambert(surface, lighting, surface.normal, occlusion**1.2, 0.15)
    # The cornea bulges: its normals fan out faster than the eyeball's.
    bulge = smoothstep(1.15, 0.6, radius)
    wet = unit(surface.normal + 0.45 * bulge * (surface.normal - axis))
    rim = fresnel(dot(wet, surface.view), 0.03) * column(looks.wet)
    mirror = lighting.mirrored(wet, surface.view).clamp_max(8.0) * rim * occlusion**2
    glint = highlight(surface, lighting, wet, 512, 2048) * column(looks.wet)
    return albedo * light + mirror + glint


def shade_mouth(
    surface: Surface, lighting: Lighting, looks: Looks, parts: dict[str, int], textures: Textures
) -> Tensor:
    """Teeth, gums, tongue and the dark behind them."""
    place = surface.place + column(looks.offset)
    grain = plane_noise(textures, place[:, :2], 500.0)
    part = surface.part[:, None]
    flesh = column(looks.tongue) * (1 + 0.12 * grain[:, :1])
    gums = flesh * torch.tensor([[1.15], [1.05], [1.0]], device=flesh.device)
    teeth = column(looks.teeth) * (1 + 0.05 * grain[:, 1:2])
    hollow = 0.35 * flesh
    albedo = torch.where(part == parts["teeth"], teeth, hollow)
    albedo = torch.where(part == parts["tongue"], flesh, albedo)
    albedo = torch.where(part == parts["gums"], gums, albedo)
    # The inner side of the lips is as red as they are, and hidden skin turns dark further in.
    inner_lip = smoothstep(0.002, 0.016, surface.place[:, 2:])
    lining = mix(hollow, column(looks.lip_color) * 0.8, inner_lip)
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
    return albedo * (ambient + direct) + (shine + 0.7 * sheen) * column(looks.wet)


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
    color = mix(column(hair.color), column(hair.tip_color), along)
    color = torch.where(kind > 1.5, column(hair.beard_color), color)
    grey = smoothstep(0.0, 0.5, column(hair.grey) - 0.5 + 0.35 * strand[:, :1])
    color = mix(color, torch.full_like(color, 0.36), 0.8 * grey)
    color = color * (1 + 0.38 * strand[:, :1] + 0.30 * strand[:, 1:]).clamp_min(0.2)
    color = color * (0.75 + 0.5 * (number * 13.3).remainder(1.0))
    depth = 0.45 + 0.55 * smoothstep(0.0, 0.45, along)
    is_hat = (kind < 0.5) & column(hair.hat)
    color = torch.where(is_hat, column(hair.hat_color), color)
    depth = torch.where(kind < 0.5, torch.where(is_hat, 1.0, 0.55), depth)
    normal = surface.normal
    exposed = surface.marks["exposure"]
    light = lambert(surface, lighting, normal, depth * exposed, 0.2)
    half = unit(surface.view + lighting.sun)
    wobble = tangent + normal * (0.12 * strand[:, :1] - 0.08)
    sine = (1 - dot(unit(wobble), half) ** 2).clamp_min(1e-4)
    facing = smoothstep(-0.3, 0.4, dot(normal, lighting.sun))
    lobes = 0.05 * power(sine, 32) + (0.25 * color + 0.01) * power(sine, 8)
    gloss = column(hair.gloss) * depth * facing * surface.sunlit[:, None] * (~is_hat)
    sheen = lighting.ambient(_reflected(normal, surface.view)) * 0.05 * depth * column(hair.gloss)
    shine = lighting.sun_color * lobes * gloss + sheen * (~is_hat)
    return color * light + shine


def shade_props(
    surface: Surface, lighting: Lighting, clothes: Clothes, glasses: Glasses,
    headphones: Headphones, textures: Textures,
) -> Tensor:  # fmt: skip
    """Collars (part 0), frames of glasses (part 1) and headphones (part 2)."""
    frame, phones = (surface.part == 1)[:, None], (surface.part == 2)[:, None]
    scarf = column(clothes.collar) == 5
    cloth = torch.where(scarf, column(clothes.second), column(clothes.color)) * (
        1 + 0.12 * plane_noise(textures, surface.place[:, :2], 600.0)[:, :1]
    )
    albedo = torch.where(frame, column(glasses.color), cloth)
    albedo = torch.where(phones, column(headphones.color), albedo)
    # A single layer seen from behind answers with its other side.
    normal = surface.normal * torch.where(dot(surface.normal, surface.view) < 0, -1.0, 1.0)
    occlusion = torch.where(frame, 0.9, 0.75)
    light = lambert(surface, lighting, normal, occlusion, 0.1)
    rim = fresnel(dot(normal, surface.view), 0.05)
    mirror = lighting.mirrored(normal, surface.view).clamp_max(8.0) * rim
    shine = highlight(surface, lighting, normal, 32, 256) * 2
    gloss = torch.where(frame, column(glasses.gloss), 0.0)
    gloss = torch.where(phones, column(headphones.gloss), gloss)
    return albedo * light + (mirror + shine) * gloss
