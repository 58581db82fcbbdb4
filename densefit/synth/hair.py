"""How hair grows: strips of strands rooted on the scalp (or the jaw) that follow a comb direction,
gravity and curl, slide over the skull, and end in tips.

A strip (a 'card') is a narrow band of triangles that carries about a dozen strands; an alpha test
in the rasteriser cuts the strands out. What a strip looks like up close is in `materials.py`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from densefit.synth.sampling import Dice

SCALP_STRIPS, SCALP_STEPS = 700, 9
BEARD_STRIPS, BEARD_STEPS = 420, 3
STRIP_AREA = 0.42
"""Total area of a head's strips, square metres: long hair needs fewer strips than short hair."""


@dataclass(frozen=True)
class Style:
    """One row of the table of hair styles; ranges are drawn uniformly.

    weight: how frequent on feminine and on masculine heads; length: metres; comb: weights of forward, back, aside, away from the parting, away from the
    crown; lift: how much the roots stand up; gravity: bend per step; curl: metres; shell: metres
    of solid hair under the strips; volume: how
    far hair may stand off, in radii of the skull; sides: length at the sides over length on top; fringe: chance.
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
    "buzz": Style((0.2, 1.5), (0.003, 0.008), (0, 0, 0, 0, 1), (0.6, 1), (0, 0), shell=(0.001, 0.003)),
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
        (0.003, 0.010), (0.9, 1.0), 0.45, width=(0.014, 0.022), volume=(0.08, 0.2),
    ),
    "long": Style(
        (4.0, 0.7), (0.26, 0.48), (0, 0.15, 0.1, 1, 0.3), (0.05, 0.35), (0.2, 0.5), (0, 0.010),
        (0.003, 0.010), (0.9, 1.0), 0.3, width=(0.018, 0.028), volume=(0.07, 0.2),
    ),
    "tied": Style(
        (2.0, 0.3), (0.16, 0.40), (0, 1, 0, 0, 0), (0.0, 0.08), (0.0, 0.02), (0, 0.001),
        (0.001, 0.004), (1, 1), 0.15, gather=1.0, volume=(0.03, 0.05),
    ),
    "curly": Style(
        (1.0, 1.3), (0.05, 0.12), (0.3, 0.1, 0.2, 0.2, 0.7), (0.3, 0.8), (0.05, 0.3), (0.006, 0.014),
        (0.008, 0.022), (0.5, 1.0), 0.3, width=(0.008, 0.012), volume=(0.2, 0.55),
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

    All (B,) unless said: style index; masculine (bool); length, width, curl, shell metres; comb (B, 5); lift;
    gravity; sides; fringe (bool); gather; messy: disorder; volume: radii; part: x of the parting over the skull's half width;
    aside: -1 or 1; recede: metres by which the hairline stands back; thin: share of roots lost;
    color (B, 3), tip_color (B, 3); grey: share of grey hairs; gloss; hat (bool); beard_length
    metres; beard_kind index; strand_root (B, N) and strand_noise (B, N, 8) likewise for the beard.
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


@dataclass(frozen=True)
class Strips:
    """Bands of strands: centre lines (B, N, S+1, 3), across (B, N, S+1, 3) unit, width
    (B, N, S+1) metres (zero where nothing grows), outward (B, N, S+1, 3) unit."""

    line: Tensor
    across: Tensor
    width: Tensor
    outward: Tensor


@dataclass(frozen=True)
class Skull:
    """An axis-aligned ellipsoid around a person's scalp: centre (B, 3), radii (B, 3), metres."""

    centre: Tensor
    radii: Tensor


def fit_skull(points: Tensor) -> Skull:
    """Least-squares ellipsoid through points (B, N, 3) of the scalp, symmetric in x."""
    x, y, z = (points * 10).unbind(-1)
    design = torch.stack([x * x, y * y, z * z, y, z], -1)
    normal = design.transpose(1, 2) @ design
    right = design.sum(1, keepdim=True).transpose(1, 2)
    a, b, c, d, e = torch.linalg.solve(normal, right)[..., 0].unbind(-1)
    centre = torch.stack([torch.zeros_like(a), -d / (2 * b), -e / (2 * c)], -1)
    level = 1 + b * centre[:, 1] ** 2 + c * centre[:, 2] ** 2
    radii = (level[:, None] / torch.stack([a, b, c], -1)).clamp_min(0.25).sqrt()
    return Skull(centre / 10, radii / 10)


def grow_scalp(hair: Hair, root: Tensor, normal: Tensor, depth: Tensor, skull: Skull) -> Strips:
    """Grow the strips of the scalp.

    Args:
        root, normal: (B, N, 3) of each strip, head frame; depth: (B, N) metres behind the
            hairline, negative in front of it.
    """
    noise = hair.strand_noise
    relative = (root - skull.centre[:, None]) / skull.radii[:, None]
    direction, length, fringe = _comb(hair, root, normal, relative, depth)
    density = (depth - hair.recede[:, None] + 0.006 * (noise[..., 0] - 0.5)) > 0
    density &= noise[..., 1] > hair.thin[:, None]
    area = hair.length * torch.minimum(hair.width, 0.5 * hair.length + 0.004)
    share = (STRIP_AREA / area.clamp_min(1e-5) / SCALP_STRIPS).clamp(0.22, 1)
    density &= torch.linspace(0, 1, SCALP_STRIPS, device=root.device) < share[:, None]
    bare = (hair.style == 0)[:, None] | (hair.hat[:, None] & (relative[..., 1] > 0.1))
    step = length / SCALP_STEPS
    line, heading = [root - 0.002 * normal], direction
    layer = 1.01 + 0.05 * noise[..., 2] + 0.4 * hair.shell[:, None] / skull.radii[:, :1]
    limit = torch.maximum(layer + 0.02, 1 + hair.volume[:, None] * (0.5 + 0.7 * noise[..., 5]))
    gravity = torch.where(fringe, hair.gravity[:, None] + 0.3, hair.gravity[:, None])
    down = torch.tensor([0.0, -1.0, 0.0], device=root.device)
    tie = skull.centre + skull.radii * torch.tensor([0.0, 0.0, -1.15], device=root.device)
    for k in range(SCALP_STEPS):
        position = line[-1]
        pull = F.normalize(tie[:, None] - position, dim=-1)
        near = (tie[:, None] - position).norm(dim=-1) < 0.03
        gather = hair.gather[:, None] * (~near).float() * (k > 0)
        heading = (
            heading + (gravity * step / 0.02)[..., None] * down + 0.9 * gather[..., None] * pull
        )
        heading = heading + hair.gather[:, None, None] * near[..., None] * 1.5 * down
        wave = (noise[..., 3:6] - 0.5) * 0.10 * hair.messy[:, None, None]
        heading = F.normalize(heading + wave, dim=-1)
        line.append(_around(position + step[..., None] * heading, skull, layer, limit))
        heading = F.normalize(line[-1] - position + 1e-6 * heading, dim=-1)
    line_points = _curl(torch.stack(line, 2), hair, noise)
    alive = (density & ~bare)[..., None]
    profile = torch.linspace(0, 1, SCALP_STEPS + 1, device=root.device)
    # Strips are narrower than the hair is long, and close at the tips.
    width = torch.minimum(hair.width[:, None], 0.5 * length + 0.004)
    width = width[..., None] * (1 - profile**3 * 0.75) * (0.6 + 0.8 * noise[..., 6:7]) * alive
    return _band(line_points, width, skull, noise[..., 7])


def _comb(
    hair: Hair, root: Tensor, normal: Tensor, relative: Tensor, depth: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Initial direction (B, N, 3), length (B, N) and whether the strip is part of a fringe."""
    device = root.device
    ones = torch.ones_like(root[..., 0])

    def fixed(x: float, y: float, z: float) -> Tensor:
        return torch.tensor([x, y, z], device=device).expand_as(root)

    side = torch.sign(relative[..., 0] - hair.part[:, None])
    parted = torch.stack([side, -0.35 * ones, -0.1 * ones], -1)
    aside = torch.stack([hair.aside[:, None] * ones, 0 * ones, 0.3 * ones], -1)
    # On the far side of a parting, hair combed aside falls down instead of across the head.
    beyond = (relative[..., 0] * hair.aside[:, None] < -0.45)[..., None]
    aside = torch.where(beyond, fixed(0, -0.9, -0.3), aside)
    crown = relative - torch.tensor([0.0, 0.85, -0.35], device=device)
    options = torch.stack(
        [fixed(0, -0.1, 1), fixed(0, 0, -1), aside, parted, F.normalize(crown, dim=-1)], 2
    )
    noise = hair.strand_noise
    direction = (options * hair.comb[:, None, :, None]).sum(2)
    fringe = hair.fringe[:, None] & (relative[..., 2] > 0.25) & (relative[..., 0].abs() < 0.75)
    forward = fixed(0, -0.2, 1) + aside * 0.35
    direction = torch.where(fringe[..., None], forward, direction)
    direction = direction + 0.35 * hair.messy[:, None, None] * (noise[..., 3:6] - 0.5)
    direction = direction - normal * (direction * normal).sum(-1, keepdim=True)
    uneven = (noise[..., 6:7] - 0.5) * (0.4 + 0.6 * hair.messy[:, None, None])
    lift = hair.lift[:, None, None] * (1 + uneven)
    direction = F.normalize(F.normalize(direction, dim=-1) + lift * normal, dim=-1)
    low = torch.sigmoid((0.25 - relative[..., 1]) * 8)
    length = hair.length[:, None] * (1 + (hair.sides[:, None] - 1) * low)
    length = length * (0.75 + 0.4 * noise[..., 1])
    # A fringe ends near the brows whatever the length elsewhere; new growth at the edge is short.
    length = torch.where(
        fringe, torch.minimum(length, 0.035 + 0.03 * noise[..., 2] + depth), length
    )
    edge = (0.35 + 0.65 * (depth / 0.02).clamp(0, 1)).clamp(0.3, 1)
    return direction, torch.where(hair.length[:, None] < 0.12, length * edge, length), fringe


def _around(position: Tensor, skull: Skull, layer: Tensor, limit: Tensor) -> Tensor:
    """Keep points (B, N, 3) between `layer` and `limit` (B, N), in radii of the skull.

    Below the ears hair falls freely.
    """
    relative = (position - skull.centre[:, None]) / skull.radii[:, None]
    radius = relative.norm(dim=-1, keepdim=True).clamp_min(1e-3)
    scale = (layer[..., None] / radius).clamp_min(1)
    free = torch.sigmoid((-0.15 - relative[..., 1:2]) * 10)
    highest = limit[..., None] + 3 * free
    scale = torch.where(radius > highest, highest / radius, scale)
    return skull.centre[:, None] + relative * scale * skull.radii[:, None]


def _curl(line: Tensor, hair: Hair, noise: Tensor) -> Tensor:
    """Add a helix of the style's amplitude around each centre line (B, N, S+1, 3)."""
    steps = line.shape[2]
    along = torch.linspace(0, 1, steps, device=line.device)
    phase = noise[..., 4:5] * 2 * math.pi + along * (4 + 10 * noise[..., 5:6])
    amplitude = hair.curl[:, None, None] * along.clamp(max=0.3) / 0.3 * (0.5 + noise[..., 3:4])
    offset = torch.stack([phase.cos(), 0.5 * (phase * 1.3).sin(), phase.sin()], -1)
    return line + amplitude[..., None] * offset


def _band(line: Tensor, width: Tensor, skull: Skull, twist: Tensor) -> Strips:
    tangent = F.normalize(torch.gradient(line, dim=2)[0], dim=-1)
    relative = (line - skull.centre[:, None, None]) / skull.radii[:, None, None]
    outward = F.normalize(relative / skull.radii[:, None, None], dim=-1)
    across = F.normalize(torch.linalg.cross(tangent, outward), dim=-1)
    angle = ((twist - 0.5) * 1.6)[..., None, None]
    across = across * angle.cos() + torch.linalg.cross(tangent, across) * angle.sin()
    return Strips(line, across, width, outward)


def grow_beard(hair: Hair, root: Tensor, normal: Tensor, inside: Tensor, skull: Skull) -> Strips:
    """Grow a beard: short strips that leave the skin and bend down.

    Args:
        root, normal: (B, N, 3); inside: (B, N) metres inside the beard's outline of this person's
            kind of beard, negative outside.
    """
    noise = hair.beard_noise
    grows = (hair.beard_kind >= 2)[:, None] & (inside + 0.004 * (noise[..., 0] - 0.5) > 0)
    grows &= noise[..., 1] < 0.9
    length = hair.beard_length[:, None] * (0.5 + 0.7 * noise[..., 2])
    length = length * (inside / 0.012).clamp(0.25, 1)
    down = torch.tensor([0.0, -1.0, 0.15], device=root.device)
    heading = F.normalize(0.5 * normal + 0.7 * down + 0.5 * (noise[..., 3:6] - 0.5), dim=-1)
    line = [root - 0.001 * normal]
    for _ in range(BEARD_STEPS):
        line.append(line[-1] + (length / BEARD_STEPS)[..., None] * heading)
        heading = F.normalize(heading + 0.35 * down + 0.3 * (noise[..., 4:7] - 0.5), dim=-1)
    profile = torch.linspace(0, 1, BEARD_STEPS + 1, device=root.device)
    width = torch.minimum(length * 0.5 + 0.002, torch.full_like(length, 0.009))
    width = width[..., None] * (1 - 0.7 * profile**2) * grows[..., None]
    strips = _band(torch.stack(line, 2), width, skull, noise[..., 7])
    outward = F.normalize(normal[:, :, None] + 0.3 * strips.outward, dim=-1)
    return Strips(strips.line, strips.across, strips.width, outward.expand_as(strips.line))


def strip_triangles(count: int, steps: int) -> Tensor:
    """(count * steps * 2, 3) triangles of strips whose vertices are laid out by `strip_vertices`."""
    first = (torch.arange(count)[:, None] * (steps + 1) + torch.arange(steps)) * 2
    left, right, left_next, right_next = first, first + 1, first + 2, first + 3
    pairs = torch.stack(
        [
            torch.stack([left, right, left_next], -1),
            torch.stack([right, right_next, left_next], -1),
        ],
        2,
    )
    return pairs.reshape(-1, 3)


def strip_vertices(strips: Strips) -> tuple[Tensor, Tensor, Tensor]:
    """Vertices, normals and tangents, each (B, N * (S+1) * 2, 3), left and right alternating."""
    half = strips.across * (strips.width / 2)[..., None]
    pair = torch.stack([strips.line - half, strips.line + half], 3)
    tangent = F.normalize(torch.gradient(strips.line, dim=2)[0], dim=-1)
    face = F.normalize(torch.linalg.cross(strips.across, tangent), dim=-1)
    face = face * torch.sign((face * strips.outward).sum(-1, keepdim=True))
    normal = F.normalize(0.75 * strips.outward + 0.35 * face, dim=-1)

    def double(values: Tensor) -> Tensor:
        return values[:, :, :, None].expand(-1, -1, -1, 2, -1).flatten(1, 3)

    return pair.flatten(1, 3), double(normal), double(tangent)
