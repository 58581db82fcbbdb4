"""Shadows of the directional light."""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor

from densefit.synth import raster
from densefit.synth.layout import Layout
from densefit.synth.shading import Lighting
from densefit.synth.strips import splat_strips

SIZE = 192
"""Pixels a side of the map."""
REACH = 0.42
"""Metres that the map spans around the head."""


class ShadowMap:
    """Depth as seen from the directional light, (B, SIZE, SIZE)."""

    def __init__(self, position: Tensor, lighting: Lighting, built: Layout) -> None:
        """position: (B, N, 3) all vertices, view frame."""
        sun = lighting.sun[..., 0]
        helper = torch.zeros_like(sun)
        helper[:, 1] = 1
        right = F.normalize(torch.linalg.cross(helper, sun) + 1e-6, dim=1)
        up = torch.linalg.cross(sun, right)
        self.frame = torch.stack([right, -up, sun], 1)
        local = position @ self.frame.transpose(1, 2)
        centre = local[:, : built.head_count].mean(1, keepdim=True)
        self.centre, self.scale = centre, SIZE / REACH
        xy = (local[..., :2] - centre[..., :2]) * self.scale + SIZE / 2
        depth = local[..., 2:] - centre[..., 2:] + 1
        pixels = torch.cat([xy, depth], -1)
        keys = raster.depth_keys(pixels, built.solid, SIZE, SIZE, "back")
        # Hair lets light through, and its shadow is smoothed: few samples do.
        splat_strips(keys, pixels, built.quads, 0, built.strand, built.fray, density=0.6)
        self.map = raster.decode_keys(keys)[1]

    def part(self, chosen: slice) -> ShadowMap:
        """The maps of some pictures."""
        out = copy.copy(self)
        out.frame, out.centre, out.map = self.frame[chosen], self.centre[chosen], self.map[chosen]
        return out

    def sunlit(self, position: Tensor, normal: Tensor) -> Tensor:
        """(B, P) share of four samples of the map that see the light; arguments (B, 3, P)."""
        # Start a little off the surface, so that it does not shade itself.
        local = self.frame @ (position + 0.004 * normal) - self.centre.transpose(1, 2)
        xy = local[:, :2] * self.scale + SIZE / 2
        depth = local[:, 2] + 1
        flat = self.map.flatten(1)
        lit = torch.zeros_like(depth)
        for dx, dy in ((-0.9, -0.35), (0.35, -0.9), (0.9, 0.35), (-0.35, 0.9)):
            x = (xy[:, 0] + dx).round().long().clamp(0, SIZE - 1)
            y = (xy[:, 1] + dy).round().long().clamp(0, SIZE - 1)
            front = flat.gather(1, y * SIZE + x)
            lit = lit + ((depth - front + 0.002) / 0.003).clamp(0, 1)
        return lit / 4
