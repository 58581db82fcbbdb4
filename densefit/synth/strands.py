"""How hair grows: strips of strands rooted on the scalp (or the jaw) that follow a comb direction,
gravity and curl, slide over the skull, and end in tips.

A strip (a 'card') is a narrow band that carries several strands; `strips.py` draws it and cuts the
strands out. What it looks like up close is in `materials.py`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from densefit.synth.hair import SCALP_STRIPS, Hair

SCALP_STEPS, BEARD_STEPS = 9, 3
FRINGE_WIDTH, BEARD_WIDTH = 0.007, 0.0035
"""Metres; most of a strip of a fringe, and of a beard."""
STRIP_AREA = 0.42
"""Total area of a head's strips, square metres: long hair needs fewer strips than short hair."""


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
    chosen = torch.linspace(0, 1, SCALP_STRIPS, device=root.device) < share[:, None]
    density &= chosen | fringe  # a fringe's strips are short and narrow: all of them are needed
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
        heading = heading + _off_the_face(position, skull, hair, fringe)
        wave = (noise[..., 3:6] - 0.5) * 0.10 * hair.messy[:, None, None]
        heading = F.normalize(heading + wave, dim=-1)
        line.append(_around(position + step[..., None] * heading, skull, layer, limit))
        heading = F.normalize(line[-1] - position + 1e-6 * heading, dim=-1)
    line_points = _curl(torch.stack(line, 2), hair, noise)
    alive = (density & ~bare)[..., None]
    profile = torch.linspace(0, 1, SCALP_STEPS + 1, device=root.device)
    # Strips are narrower than the hair is long, and close at the tips.
    width = torch.minimum(hair.width[:, None], 0.5 * length + 0.004)
    # Over the forehead single locks count: between them brows and skin are seen.
    width = torch.where(fringe, width.clamp(max=FRINGE_WIDTH), width)
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
    # A fringe ends near the brows whatever the length elsewhere, the tidier the straighter; new
    # growth at the edge is short.
    uneven_end = 0.03 * hair.messy[:, None] * (noise[..., 2] - 0.5)
    fringe_length = hair.fringe_length[:, None] + uneven_end + depth
    length = torch.where(fringe, torch.minimum(length, fringe_length), length)
    edge = (0.35 + 0.65 * (depth / 0.02).clamp(0, 1)).clamp(0.3, 1)
    return direction, torch.where(hair.length[:, None] < 0.12, length * edge, length), fringe


def _off_the_face(position: Tensor, skull: Skull, hair: Hair, fringe: Tensor) -> Tensor:
    """A push sideways (B, N, 3) for hair that hangs before the face; untidy people lack it."""
    x, y, z = ((position - skull.centre[:, None]) / skull.radii[:, None]).unbind(-1)
    front = torch.sigmoid((z - 0.45) * 10) * torch.sigmoid((0.5 - y) * 10) * (x.abs() < 0.85)
    tidy = (hair.messy < 0.95)[:, None] & ~fringe
    side = torch.where(x < 0, -1.0, 1.0) * front * tidy
    return torch.stack([1.2 * side, 0 * side, -0.5 * side.abs()], -1)


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
    width = torch.minimum(length * 0.25 + 0.001, torch.full_like(length, BEARD_WIDTH))
    width = width[..., None] * (1 - 0.8 * profile**2) * grows[..., None]
    strips = _band(torch.stack(line, 2), width, skull, noise[..., 7])
    outward = F.normalize(normal[:, :, None] + 0.3 * strips.outward, dim=-1)
    return Strips(strips.line, strips.across, strips.width, outward.expand_as(strips.line))


def strip_triangles(count: int, steps: int) -> Tensor:
    """(count * steps * 2, 3) triangles of strips whose vertices are laid out by
    `strip_vertices`."""
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
