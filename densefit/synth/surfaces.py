"""Building blocks of parametric surfaces: grids, tubes."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

TUBE_SIDES = 6


def grid_triangles(rows: int, columns: int, closed: bool) -> Tensor:
    """Triangles of a (rows, columns) grid of vertices, each row closed into a ring or not."""
    last = columns if closed else columns - 1
    i, j = torch.meshgrid(torch.arange(rows - 1), torch.arange(last), indexing="ij")
    a, b = i * columns + j, i * columns + (j + 1) % columns
    c, d = a + columns, b + columns
    return torch.stack([torch.stack([a, c, b], -1), torch.stack([b, c, d], -1)], 2).reshape(-1, 3)


def tube(path: Tensor, radius: Tensor, closed: bool) -> Tensor:
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
