"""Things people wear: shoulders with clothing, a collar, glasses. All as parametric surfaces."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from densefit.synth.sampling import Dice

COLUMNS, TORSO_RINGS, COLLAR_RINGS = 48, 16, 5
RIM_POINTS, TEMPLE_POINTS, TUBE_SIDES = 40, 8, 6
COLLARS = ("none", "shirt", "turtleneck", "hood", "crew")


@dataclass(frozen=True)
class Clothes:
    """neck_depth, neck_v: (B,) metres below the neckline at which the cloth begins, and how much
    lower in front;
    width: (B,) of the shoulders in metres; slope: (B,); color, second: (B, 3); pattern: (B,)
    index; scale: (B,) stripes a metre; collar: (B,) index into COLLARS; collar_height (B,) metres;
    flare (B,); loose: (B,) metres between skin and cloth."""

    neck_depth: Tensor
    neck_v: Tensor
    width: Tensor
    slope: Tensor
    color: Tensor
    second: Tensor
    pattern: Tensor
    scale: Tensor
    collar: Tensor
    collar_height: Tensor
    flare: Tensor
    loose: Tensor


@dataclass(frozen=True)
class Glasses:
    """worn: (B,) bool; half: (B, 2) metres, half size of a lens; power: (B,) exponent of the
    superellipse; thick: (B,) metres, radius of the rim; drop, front: (B,) metres; color: (B, 3);
    gloss: (B,); tint: (B,) opacity of the lenses; rimless: (B,) bool; reflect: (B,)."""

    worn: Tensor
    half: Tensor
    power: Tensor
    thick: Tensor
    drop: Tensor
    front: Tensor
    color: Tensor
    gloss: Tensor
    tint: Tensor
    rimless: Tensor
    reflect: Tensor


def sample_clothes(dice: Dice) -> Clothes:
    """Clothes from bare shoulders to turtlenecks."""
    grey = dice.log_uniform(0.015, 0.8, 1).expand(-1, 3)
    vivid = dice.uniform(0.01, 0.9, 3) ** 1.6
    color = torch.where(dice.chance(0.5, 1), grey * (1 + 0.12 * dice.normal(3)), vivid)
    second = torch.where(dice.chance(0.5, 1), 1 - color, dice.uniform(0.02, 0.9, 3))
    collar = dice.pick([3.0, 2.5, 1.2, 1.2, 1.5])
    deep = dice.chance(0.25)
    neck_depth = torch.where(deep, dice.uniform(0.02, 0.07), dice.uniform(-0.012, 0.018))
    return Clothes(
        neck_depth=torch.where(collar == 0, neck_depth, torch.full_like(neck_depth, 0.004)),
        neck_v=torch.where(collar == 0, dice.uniform(0, 0.07), 0.02),
        width=dice.uniform(0.185, 0.245),
        slope=dice.uniform(0.02, 0.065),
        color=color.clamp(0.008, 0.85),
        second=second.clamp(0.008, 0.85),
        pattern=dice.pick([5.0, 1.0, 1.0, 1.5]),
        scale=dice.log_uniform(12, 70),
        collar=collar,
        collar_height=dice.uniform(0.02, 0.055),
        flare=dice.uniform(0.0, 0.7),
        loose=dice.uniform(0.002, 0.012),
    )


def sample_glasses(dice: Dice) -> Glasses:
    """One head in five wears glasses; one pair in ten is dark."""
    dark = dice.uniform(0.0, 0.12, 1).expand(-1, 3)
    shade = torch.where(dice.chance(0.65, 1), dark, dice.uniform(0.02, 0.8, 3))
    thin = dice.chance(0.45)
    sun = dice.chance(0.12)
    return Glasses(
        worn=dice.chance(0.2),
        half=torch.stack([dice.uniform(0.021, 0.030), dice.uniform(0.015, 0.025)], 1),
        power=dice.uniform(2.0, 5.0),
        thick=torch.where(thin, dice.uniform(0.0006, 0.0012), dice.uniform(0.0013, 0.0030)),
        drop=dice.uniform(-0.002, 0.008),
        front=dice.uniform(0.018, 0.027),
        color=shade,
        gloss=dice.uniform(0.1, 1.5),
        tint=torch.where(sun, dice.uniform(0.5, 0.97), dice.uniform(0.0, 0.12)),
        rimless=dice.chance(0.1),
        reflect=dice.uniform(0.2, 1.0),
    )


def grid_triangles(rows: int, columns: int, closed: bool) -> Tensor:
    """Triangles of a (rows, columns) grid of vertices, each row closed into a ring or not."""
    last = columns if closed else columns - 1
    i, j = torch.meshgrid(torch.arange(rows - 1), torch.arange(last), indexing="ij")
    a, b = i * columns + j, i * columns + (j + 1) % columns
    c, d = a + columns, b + columns
    return torch.stack([torch.stack([a, c, b], -1), torch.stack([b, c, d], -1)], 2).reshape(-1, 3)


def mean_clothes() -> Clothes:
    """Average clothes, for attributes that must not depend on the person."""
    one = torch.ones(1)
    return Clothes(
        0 * one, 0 * one, 0.215 * one, 0.04 * one, one.expand(1, 3), one.expand(1, 3), 0 * one,
        30 * one, 0 * one, 0.03 * one, 0 * one, 0 * one,
    )  # fmt: skip


def torso(clothes: Clothes, edge: Tensor) -> Tensor:
    """Shoulders below the head model's lower edge.

    Args:
        edge: (B, COLUMNS, 3) the lower edge of the model, head frame before the neck turns,
            column j at the angle 2 pi j / COLUMNS from +z (the front) towards +x.

    Returns:
        (B, TORSO_RINGS * COLUMNS, 3); the second ring lies on the edge.
    """
    device = edge.device
    angle = torch.arange(COLUMNS, device=device) / COLUMNS * 2 * math.pi
    sine, cosine = angle.sin(), angle.cos()
    centre = edge.mean(1, keepdim=True)
    t = torch.linspace(0, 1, TORSO_RINGS, device=device)[None, :, None]
    out = (t / 0.5).clamp(max=1)  # to the rim of the shoulders ...
    fall = ((t - 0.5) / 0.5).clamp(min=0)  # ... and then down
    # The first ring lies inside the head model, so that the seam has no gaps.
    inner = centre + (edge - centre) * 0.93 - torch.tensor([0.0, 0.014, 0.0], device=device)
    start = edge - centre
    width = clothes.width[:, None]
    reach_x = start[..., 0].sign() * torch.maximum(start[..., 0].abs() + 0.02, width * sine.abs())
    reach_z = start[..., 2] + cosine * torch.where(cosine > 0, 0.045, 0.015)
    x = centre[:, None, :, 0] + _mix(start[:, None, :, 0], reach_x[:, None], out**1.2)
    z = centre[:, None, :, 2] + _mix(start[:, None, :, 2], reach_z[:, None], out)
    x = x * (1 + 0.08 * fall)
    z = z + 0.03 * cosine * fall
    steep = clothes.slope[:, None, None] * out**1.6 * sine.abs() + 0.05 * out * (1 - sine.abs())
    y = edge[:, None, :, 1] - steep - 0.30 * fall**1.3
    points = torch.stack([x, y, z], -1)
    return torch.cat([inner[:, None], points[:, :-1]], 1).flatten(1, 2)


def _mix(a: Tensor, b: Tensor, t: Tensor) -> Tensor:
    return a + (b - a) * t


def collar(clothes: Clothes, low: Tensor, high: Tensor) -> Tensor:
    """A band around the neck.

    Args:
        low, high: (B, COLUMNS, 3) points of the skin at the foot of the neck and 44 mm higher.

    Returns:
        (B, COLLAR_RINGS * COLUMNS, 3), bottom to top; collapsed where there is no collar.
    """
    device = low.device
    angle = torch.arange(COLUMNS, device=device) / COLUMNS * 2 * math.pi
    kind = clothes.collar[:, None, None]
    t = torch.linspace(0, 1, COLLAR_RINGS, device=device)[None, :, None]
    height = clothes.collar_height[:, None, None]
    height = torch.where(kind == 2, height * 1.2, torch.where(kind == 4, 0.016, height))
    back = 0.5 - 0.5 * angle.cos()
    height = height * torch.where(kind == 3, 0.4 + 0.8 * back, 0.8 + 0.3 * back)
    # Collars of shirts open in front.
    gap = torch.sigmoid((angle.cos() - 0.94) * 80) * torch.where(kind == 1, 0.5, 0.0)
    rise = height / 0.044 * (t - gap * t)
    points = low[:, None] + (high - low)[:, None] * rise[..., None]
    away = torch.stack([angle.sin(), torch.zeros_like(angle), angle.cos()], -1)
    flare = torch.where(kind == 2, 0.002, 0.004 + 0.02 * clothes.flare[:, None, None])
    flare = torch.where(kind == 3, flare + 0.02, torch.where(kind == 4, 0.003, flare))
    # The foot spreads out onto the shoulders.
    foot = 0.012 * (1 - t) ** 3
    points = points + (0.003 + flare * t + foot)[..., None] * away
    points = points - torch.tensor([0.0, 0.6, 0.0], device=device) * foot[..., None]
    hidden = (kind == 0)[..., None]
    collapsed = low.mean(1, keepdim=True)[:, None]
    return torch.where(hidden, collapsed, points).flatten(1, 2)


def glasses_frame(
    glasses: Glasses, eyes: Tensor, temple_x: Tensor, ear: Tensor
) -> tuple[Tensor, Tensor]:
    """Tubes of the frame and flat lenses.

    Args:
        eyes: (B, 2, 3) centres of the left and right eyeball; temple_x: (B,) half width of the
            head in front of the ears; ear: (B, 3) where the left temple rests. Head frame.

    Returns:
        frame (B, n, 3) laid out by `glasses_triangles`, lenses (B, 2 * RIM_POINTS, 3): rims.
    """
    device = eyes.device
    angle = torch.arange(RIM_POINTS, device=device) / RIM_POINTS * 2 * math.pi
    power = (2 / glasses.power)[:, None]
    half = torch.minimum(glasses.half, torch.stack(
        [eyes[:, 0, 0] - eyes[:, 1, 0] - 0.012, torch.full_like(power[:, 0], 0.1)], 1
    ) * 0.5)  # fmt: skip
    unit_x = angle.cos().sign() * angle.cos().abs() ** power
    unit_y = angle.sin().sign() * angle.sin().abs() ** power
    rims, tubes = [], []
    for side in (1.0, -1.0):
        eye = eyes[:, 0 if side > 0 else 1]
        x = eye[:, None, 0] + side * (0.001 + half[:, :1] * unit_x)
        y = eye[:, None, 1] - glasses.drop[:, None] + half[:, 1:] * unit_y
        x, y = _inner_corner(x, y, eye, half, side)
        z = eye[:, None, 2] + glasses.front[:, None] - 2.2 * x**2 + 0.12 * (y - eye[:, None, 1])
        rims.append(torch.stack([x, y, z], -1))
        radius = torch.where(glasses.rimless, 0.0002, glasses.thick)
        tubes.append(_tube(rims[-1], radius, closed=True))
    left = rims[0]
    hinge = left[:, 3]
    t = torch.linspace(0, 1, TEMPLE_POINTS, device=device)[None, :, None]
    corner = torch.stack([temple_x + 0.002, hinge[:, 1], hinge[:, 2] - 0.012], 1)[:, None]
    rest = torch.stack([temple_x + 0.004, ear[:, 1] + 0.002, ear[:, 2] - 0.01], 1)[:, None]
    path = torch.where(
        t < 0.2, _mix(hinge[:, None], corner, t * 5), _mix(corner, rest, (t - 0.2) / 0.8)
    )
    mirror = torch.tensor([-1.0, 1.0, 1.0], device=device)
    for sign in (torch.ones_like(mirror), mirror):
        tubes.append(_tube(path * sign, glasses.thick * 1.2, closed=False))
    inner = left[:, RIM_POINTS // 2 - 3]
    arc = torch.linspace(-1, 1, TEMPLE_POINTS, device=device)[None, :, None]
    bridge = inner[:, None] * torch.cat([arc, torch.ones_like(arc), torch.ones_like(arc)], -1)
    bridge = bridge + (1 - arc**2) * torch.tensor([0.0, 0.003, 0.002], device=device)
    tubes.append(_tube(bridge, glasses.thick, closed=False))
    hidden = ~glasses.worn[:, None, None]
    frame = torch.where(hidden, 0.0, torch.cat(tubes, 1))
    lenses = torch.where(hidden, 0.0, torch.cat(rims, 1))
    return frame, lenses


def _inner_corner(
    x: Tensor, y: Tensor, eye: Tensor, half: Tensor, side: float
) -> tuple[Tensor, Tensor]:
    """Cut the lower inner corner of a lens, where the nose is."""
    inward = ((eye[:, None, 0] - x) * side / half[:, :1]).clamp_min(0)
    below = ((eye[:, None, 1] - y) / half[:, 1:]).clamp_min(0)
    return x + side * 0.25 * half[:, :1] * inward * below, y


def _tube(path: Tensor, radius: Tensor, closed: bool) -> Tensor:
    """Ring of TUBE_SIDES vertices around each point of a path (B, M, 3) -> (B, M * sides, 3)."""
    if closed:
        tangent = path.roll(-1, 1) - path.roll(1, 1)
    else:
        tangent = torch.gradient(path, dim=1)[0]
    tangent = F.normalize(tangent, dim=-1)
    helper = torch.tensor([0.31, 0.22, 0.92], device=path.device).expand_as(tangent)
    steep = tangent[..., 2:].abs() > 0.8
    helper = torch.where(steep, torch.tensor([0.1, 0.99, 0.05], device=path.device), helper)
    first = F.normalize(torch.linalg.cross(tangent, helper), dim=-1)
    second = torch.linalg.cross(tangent, first)
    angle = torch.arange(TUBE_SIDES, device=path.device) / TUBE_SIDES * 2 * math.pi
    ring = first[:, :, None] * angle.cos()[:, None] + second[:, :, None] * angle.sin()[:, None]
    return (path[:, :, None] + radius[:, None, None, None] * ring).flatten(1, 2)


def glasses_triangles() -> tuple[Tensor, Tensor]:
    """Triangles of the frame and of the lenses."""
    frame, first = [], 0
    rim = grid_triangles(RIM_POINTS + 1, TUBE_SIDES, closed=True)
    rim = rim % (RIM_POINTS * TUBE_SIDES)
    bar = grid_triangles(TEMPLE_POINTS, TUBE_SIDES, closed=True)
    for triangles, count in (
        (rim, RIM_POINTS), (rim, RIM_POINTS), (bar, TEMPLE_POINTS), (bar, TEMPLE_POINTS),
        (bar, TEMPLE_POINTS),
    ):  # fmt: skip
        frame.append(triangles + first)
        first += count * TUBE_SIDES
    k = torch.arange(1, RIM_POINTS - 1)
    fan = torch.stack([torch.zeros_like(k), k, k + 1], -1)
    return torch.cat(frame), torch.cat([fan, fan + RIM_POINTS])
