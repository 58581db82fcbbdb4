"""Drawing strips of strands: every quad is sampled on a grid dense enough to leave no holes.

Strips are long, thin and slanted, so testing the pixels of their bounding boxes is wasteful.
Sampling them instead needs no tests and no gathers: a quad gives rows of points by bilinear
interpolation, a strand's own texture cuts gaps, and the nearest point of a pixel wins through
the same integer keys as in `raster.py`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from densefit.synth.raster import make_key

GRID = (2, 4, 6, 9, 13, 19, 28, 42, 64, 110, 180)
"""Numbers of samples along a side of a quad; a quad gets the next larger one."""
MAX_SAMPLES = 3_000_000


def splat_strips(
    keys: Tensor,
    vertices_px: Tensor,
    quads: Tensor,
    first_triangle: int,
    strand: Tensor,
    fray: Tensor,
    density: float = 1.1,
) -> None:
    """Draw strips into keys (B, H, W) in place.

    Args:
        vertices_px: (B, V, 3) x px, y px, 1/z.
        quads: (Q, 4) vertices: left, right, next left, next right.
        first_triangle: id of quad 0's first triangle; its second one follows.
        strand: (Q, 3): number in [0, 1) of the strip, along at the start and at the end.
        fray: (Q,) how gappy the strip is; 0 solid, 1 loose strands.
        density: samples per pixel along each side; less than 1 leaves holes.
    """
    count, height, width = keys.shape
    corner = vertices_px[:, quads]  # (B, Q, 4, 3)
    # Samples outside of the picture fall into a border one pixel wide.
    padded = torch.zeros(count, height + 2, width + 2, dtype=torch.int64, device=keys.device)
    shape, keep = _samples(corner, keys, density)
    picture, quad = keep.nonzero(as_tuple=True)
    bucket = shape[picture, quad]
    order = torch.argsort(bucket)
    sizes = torch.bincount(bucket, minlength=len(GRID) ** 2).tolist()
    start = 0
    for code, number in enumerate(sizes):
        rows = order[start : start + number]
        start += number
        across, along = GRID[code // len(GRID)], GRID[code % len(GRID)]
        for part in rows.split(max(1, MAX_SAMPLES // (across * along))):
            if len(part):
                b, q = picture[part], quad[part]
                pixel, key = _grid(
                    corner[b, q], strand[q], fray[q], first_triangle + 2 * q, across, along,
                    height, width,
                )  # fmt: skip
                pixel += (b * (height + 2) * (width + 2))[:, None]
                padded.view(-1).scatter_reduce_(0, pixel.view(-1), key.view(-1), "amax")
    torch.maximum(keys, padded[:, 1:-1, 1:-1], out=keys)


def _samples(corner: Tensor, keys: Tensor, density: float) -> tuple[Tensor, Tensor]:
    """Code of the grid (B, Q) each quad needs, and whether it can be seen at all."""
    x, y, inverse_depth = corner.unbind(-1)
    height, width = keys.shape[1:]

    def span(a: int, b: int) -> Tensor:
        return ((x[..., a] - x[..., b]) ** 2 + (y[..., a] - y[..., b]) ** 2).sqrt()

    across = torch.maximum(span(0, 1), span(2, 3))
    along = torch.maximum(span(0, 2), span(1, 3))
    inside = (x.amax(-1) >= 0) & (y.amax(-1) >= 0)
    inside &= (x.amin(-1) <= width - 1) & (y.amin(-1) <= height - 1)
    keep = inside & (across > 0.05) & (inverse_depth.amin(-1) > 0)
    # What lies behind solid things with all four corners will not be seen.
    column = x.round().long().clamp(0, width - 1)
    row = y.round().long().clamp(0, height - 1)
    index = (row * width + column).flatten(1)
    front = (keys.flatten(1).gather(1, index) >> 32).to(torch.int32).view(torch.float32)
    keep &= (inverse_depth > front.view_as(x)).any(-1)
    edges = torch.tensor(GRID, device=x.device, dtype=x.dtype)
    last = len(GRID) - 1
    code = torch.bucketize(across * density + 1, edges).clamp(max=last) * len(GRID)
    return code + torch.bucketize(along * density + 1, edges).clamp(max=last), keep


def _grid(
    corner: Tensor, strand: Tensor, fray: Tensor, triangle: Tensor, across: int, along: int,
    height: int, width: int,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Pixels of the padded picture and keys, (N, along * across), of N quads of one size."""
    device, count = corner.device, len(corner)
    u = (torch.arange(across, device=device, dtype=corner.dtype) + 0.5) / across
    v = (torch.arange(along, device=device, dtype=corner.dtype) + 0.5) / along
    grid_v, grid_u = torch.meshgrid(v, u, indexing="ij")
    # Bilinear interpolation of all samples is one matrix product.
    basis = torch.stack([
        (1 - grid_u) * (1 - grid_v), grid_u * (1 - grid_v), (1 - grid_u) * grid_v, grid_u * grid_v,
    ]).view(4, -1)  # fmt: skip
    x, y, inverse_depth = (corner.permute(2, 0, 1).reshape(-1, 4) @ basis).view(3, count, -1)
    column = x.round_().clamp_(-1, width).to(torch.int64)
    row = y.round_().clamp_(-1, height).to(torch.int64)
    pixel = row.add_(1).mul_(width + 2).add_(column.add_(1))
    upper = (grid_u + grid_v > 1).long().view(1, -1)
    key = make_key(inverse_depth, triangle[:, None] + upper)
    # Strands end at different lengths, the outer ones sooner: a number per strand from a hash.
    lane = (u[None] * 7 + strand[:, :1] * 131).floor()
    chance = (torch.sin(lane * 12.9898 + strand[:, :1] * 78.233) * 43758.5453).remainder(1)
    middle = 1 - (2 * u - 1).abs()
    reach = 1 - fray[:, None] * (0.55 - 0.2 * middle - 0.6 * chance).clamp_min(-0.3)
    place = strand[:, 1:2] * (1 - v) + strand[:, 2:] * v
    kept = place[:, :, None] < reach.clamp_min(0.15)[:, None]
    return pixel, key.mul_(kept.view(count, -1))
