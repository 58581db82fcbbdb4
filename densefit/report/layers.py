"""The picture of a head that is laid over the footage: shaded, with outlines, half transparent.

Brightness and the distances to a triangle's sides are affine in the picture (perspective bends them
by less than anybody sees), so each pixel takes four planes of its triangle instead of weights of
its corners: a quarter of the time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from densefit.synth.raster import rasterize

AREA_EPSILON = 1e-9
DEPTH_JUMP = 0.012
"""m: between neighbouring pixels; from there on an outline is drawn."""
SAMPLE_STEP = 4
"""Each n-th pixel of each n-th row tells how large the triangles of a picture are."""


@dataclass(frozen=True)
class PainterOptions:
    """Look of the drawn head."""

    opacity: float = 0.35
    """Of the shaded surface, 0 to 1; the footage must stay readable below it."""
    line_opacity: float = 0.8
    """Of outlines and of the curves of lids, brows and lips."""
    raster_side: int = 256
    """px: the head is rasterised at most this large, then enlarged; bounds the time."""
    wire_from: float = 5.0
    """px: mean edge of a triangle in the raster from which edges begin to show; 0: always."""
    wire_share: float = 0.3
    """Opacity of the edges beside that of outlines."""
    curves: bool = True
    """Draw lids, brows, lips and irises through their landmarks."""
    line_rgb: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """sRGB of outlines and edges, 0 to 1."""


@dataclass(frozen=True)
class Layers:
    """B pictures of heads; `rgb` is multiplied by opacity already."""

    rgb: np.ndarray
    """(B, h, w, 3) uint8."""
    opacity: np.ndarray
    """(B, h, w) uint8."""
    inverse_depth: np.ndarray
    """(B, h, w) float32, 1/m; 0 where there is no head."""
    groups: np.ndarray
    """(B, h, w) int16: the group of the triangle that is seen, -1 where there is none."""


class LayerPainter:
    """Draws layers of one mesh; the tables that do not change are made once."""

    def __init__(
        self,
        triangles: np.ndarray,
        colours: np.ndarray,
        groups: np.ndarray,
        options: PainterOptions,
    ) -> None:
        """Args:
        triangles: (F, 3), counter-clockwise seen from outside.
        colours: (F, 3) sRGB 0..1.
        groups: (F,) outlines are drawn where these numbers (from 0) meet.
        """
        self._options = options
        self._triangles = torch.from_numpy(triangles.astype(np.int64))
        # The last row is that of pixels without a triangle.
        self._colours = torch.zeros(len(triangles) + 1, 3)
        self._colours[:-1] = torch.from_numpy(colours.astype(np.float32))
        self._groups = np.append(groups.astype(np.int16), np.int16(-1))
        corners = triangles.reshape(-1)
        order = np.argsort(corners, kind="stable")
        # Triangles around each vertex, one vertex after the other.
        self._around = torch.from_numpy(order // 3)
        count = np.bincount(corners)
        self._around_start = torch.from_numpy(np.concatenate([[0], np.cumsum(count)[:-1]]))

    def draw(self, vertices_px: np.ndarray, points: np.ndarray, height: int, width: int) -> Layers:
        """Layers of B heads.

        Args:
            vertices_px: (B, V, 3) float32: x px, y px, 1/z.
            points: (B, V, 3) metres, camera.
            height, width: px of the layers.
        """
        pixels = torch.from_numpy(vertices_px)
        ids, inverse_depth = rasterize(pixels, self._triangles, height, width)
        covered = ids >= 0
        triangle = torch.where(covered, ids, len(self._triangles))
        depth = inverse_depth.numpy()
        groups = self._groups[triangle.numpy()]
        lines = _outlines(groups, depth)
        light = self._light(torch.from_numpy(points.astype(np.float32)))
        planes, edges = self._planes(pixels, light)
        strength = self._wire_strength(triangle, edges)
        row = triangle * len(pixels) + torch.arange(len(pixels)).view(-1, 1, 1)
        brightness = _evaluated(planes[0], row)
        if bool(strength.any()):
            nearest = _evaluated(planes[1], row)
            for side in planes[2:]:
                nearest = torch.minimum(nearest, _evaluated(side, row))
            wire = (1 - nearest).clamp_(0, 1) * covered
            lines = torch.maximum(lines, wire * strength.view(-1, 1, 1))
        lines = lines * self._options.line_opacity
        opacity = torch.where(covered, lines.clamp_min(self._options.opacity), lines)
        shade = brightness.clamp_min(0) * (1 - lines) * opacity
        rgb = self._colours[triangle] * shade[..., None]
        rgb = torch.minimum(rgb, opacity[..., None])
        if any(self._options.line_rgb):
            rgb += lines[..., None] * torch.tensor(self._options.line_rgb)
        return Layers(_bytes(rgb), _bytes(opacity), depth, groups)

    def _light(self, points: Tensor) -> Tensor:
        """(V, B): a head light with a weaker one from above, as a factor of sRGB values.

        Normals are the area-weighted means of the triangles around a vertex.
        """
        count = len(points)
        rows = points.transpose(0, 1).reshape(points.shape[1], -1)
        a, b, c = (rows[self._triangles[:, k]].view(-1, count, 3) for k in range(3))
        faces = torch.linalg.cross(b - a, c - a).view(len(a), -1)
        normals = torch.nn.functional.embedding_bag(
            self._around, faces, self._around_start, mode="sum"
        )
        rows = rows[: len(normals)].view(-1, count, 3)
        normals = torch.nn.functional.normalize(normals.view(-1, count, 3), dim=2, eps=1e-20)
        towards = torch.nn.functional.normalize(rows, dim=2)
        front = -(normals * towards).sum(2)
        light = 0.3 + 1.1 * front.clamp_(0, 1) + 0.3 * (-normals[..., 1]).clamp_(0, 1)
        return light ** (1 / 2.2)

    def _planes(self, vertices_px: Tensor, light: Tensor) -> tuple[Tensor, Tensor]:
        """Affine functions of x and y on each triangle of each picture.

        Returns:
            (4, 3, F + 1, B): of the brightness and of the distances (px) to the triangle's three
            sides, value at the origin and steps in x and in y; and (F + 1, B): mean side, px. The
            last triangle is none: zero.
        """
        place = vertices_px[..., :2].permute(1, 2, 0)
        a, b, c = (place[self._triangles[:, k]] for k in range(3))
        ab, ac, bc = b - a, c - a, c - b
        area = ab[:, 0] * ac[:, 1] - ac[:, 0] * ab[:, 1]
        scale = torch.where(area.abs() > AREA_EPSILON, 1 / area, 0)
        out = area.new_zeros(4, 3, len(area) + 1, area.shape[1])
        # A corner's weight times the triangle's height there is the distance to the side opposite.
        weights = out[1:, :, :-1]
        weights[1, 1], weights[1, 2] = ac[:, 1] * scale, -ac[:, 0] * scale
        weights[2, 1], weights[2, 2] = -ab[:, 1] * scale, ab[:, 0] * scale
        for k in (1, 2):
            weights[k, 0] = -(weights[k, 1] * a[:, 0] + weights[k, 2] * a[:, 1])
        torch.sum(weights[1:], 0, out=weights[0]).neg_()
        weights[0, 0] += 1
        for k in range(3):
            out[0, :, :-1] += weights[k] * light[self._triangles[:, k]]
        sides = torch.stack([bc.norm(dim=1), ac.norm(dim=1), ab.norm(dim=1)])
        weights *= (area.abs() / sides.clamp_min(1e-6))[:, None]
        edges = out.new_zeros(out.shape[2:])
        edges[:-1] = sides.mean(0)
        return out, edges

    def _wire_strength(self, triangle: Tensor, edges: Tensor) -> Tensor:
        """(B,) 0..1: opacity of the triangles' edges, if these are large enough."""
        start, share = self._options.wire_from, self._options.wire_share
        count = len(triangle)
        if not start:
            return torch.full((count,), share)
        some = triangle[:, ::SAMPLE_STEP, ::SAMPLE_STEP].reshape(count, -1)
        covered = (some < len(self._triangles)).sum(1).clamp_min(1)
        mean = edges.view(-1)[some * count + torch.arange(count)[:, None]].sum(1) / covered
        return share * (mean / start - 1).clamp(0, 1)


def _evaluated(plane: Tensor, row: Tensor) -> Tensor:
    """(B, h, w): an affine function of x and y at each pixel.

    Args:
        plane: (3, F + 1, B) value at the origin and steps, on each triangle.
        row: (B, h, w) which of the (F + 1) * B triangles each pixel shows.
    """
    value, step_x, step_y = (p.reshape(-1).index_select(0, row.view(-1)) for p in plane)
    y = torch.arange(row.shape[1], dtype=plane.dtype).view(-1, 1)
    x = torch.arange(row.shape[2], dtype=plane.dtype)
    value = value.view(row.shape).addcmul_(step_x.view(row.shape), x)
    return value.addcmul_(step_y.view(row.shape), y)


def _outlines(groups: np.ndarray, inverse_depth: np.ndarray) -> Tensor:
    """(B, h, w) float32 0..1: where groups meet, and where depth jumps by more than 12 mm."""
    depth = np.where(inverse_depth > 0, 1 / np.maximum(inverse_depth, 1e-6), np.float32(1e3))
    lines = np.zeros(groups.shape, np.float32)
    for axis in (1, 2):
        step = (np.diff(groups, axis=axis) != 0) | (np.abs(np.diff(depth, axis=axis)) > DEPTH_JUMP)
        target = lines[:, :-1] if axis == 1 else lines[:, :, :-1]
        target[step] = 1.0
    blurred: Sequence[np.ndarray] = [cv2.GaussianBlur(picture, (3, 3), 0.6) for picture in lines]
    return torch.from_numpy(np.stack(blurred))


def _bytes(values: Tensor) -> np.ndarray:
    """0..1 as 0..255."""
    return (values * 255 + 0.5).to(torch.uint8).numpy()
