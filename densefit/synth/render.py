"""The renderer: scenes in, pictures with exact landmarks out.

Geometry is built for the whole batch, rasterised at twice the size, and shaded group by group on
padded lists of pixels, so that every parameter of a person is broadcast and not looked up.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from densefit.head.model import HeadModel
from densefit.synth import raster
from densefit.synth.complexion import crease_depths
from densefit.synth.geometry import Geometry, GeometryBuilder
from densefit.synth.layout import GROUPS
from densefit.synth.light import tone_map
from densefit.synth.materials import (
    shade_eyes,
    shade_hair,
    shade_mouth,
    shade_props,
    shade_skin,
)
from densefit.synth.sampling import rows
from densefit.synth.scene import Scene
from densefit.synth.shading import Lighting, Surface, make_lighting, unit
from densefit.synth.shadow import ShadowMap
from densefit.synth.strips import splat_strips
from densefit.synth.surface_marks import GROUP_MARKS
from densefit.synth.textures import make_textures
from densefit.synth.views import Views, camera_points, cut_out, project, supersampled

CHUNK = 2
VISIBLE_TOLERANCE, THIN_TOLERANCE = 0.004, 0.0008
"""A landmark counts as hidden when something lies more than this far in front of it, metres;
the second holds for eyes, teeth and tongue, which thin lids and lips cover."""
COVERED_REGIONS = ("iris", "sclera", "teeth", "tongue")
EDGE_REGIONS = ("lid", "lips")
"""Edges are seen whichever way the skin turns there."""


@dataclass(frozen=True)
class RenderBatch:
    """Pictures with their labels.

    rgba: (B, 4, S, S) uint8, colour not multiplied by alpha; landmarks_px: (B, 703, 2) float32;
    depth: (B, 703) metres; visible: (B, 703) bool; parts: (B, S, S) uint8, head part + 1,
    100 hair, 101 what is worn, 0 background; views: the cameras;
    vertices: (B, V, 3) metres, head frame.
    """

    rgba: Tensor
    landmarks_px: Tensor
    depth: Tensor
    visible: Tensor
    parts: Tensor
    views: Views
    vertices: Tensor


@dataclass(frozen=True)
class _Posed:
    """What shading reads of the geometry, view frame: table (B, N, 7) of normal, position and
    exposure; tangents (B, N, 3); gaze (B, 2, 3); pixels (B, N, 3) projected vertices."""

    table: Tensor
    tangents: Tensor
    gaze: Tensor
    pixels: Tensor


class Renderer:
    """Renders scenes on one device. Building one takes a second or two; keep it."""

    def __init__(
        self, head: HeadModel, device: torch.device | str = "cpu", chunk: int = CHUNK
    ) -> None:
        """chunk: pictures that are shaded at once; a few fill a CPU's cache, a GPU wants many."""
        self.head = head
        self.device = torch.device(device)
        self.chunk = chunk
        self.geometry = GeometryBuilder(head, self.device)
        self.layout = self.geometry.layout
        self.textures = make_textures(self.device)
        self.part_number = {name: i for i, name in enumerate(head.part_names)}
        region = torch.as_tensor(head.landmark_region).long()

        def among(words: tuple[str, ...]) -> Tensor:
            named = [any(word in name for word in words) for name in head.region_names]
            return torch.tensor(named)[region].to(self.device)

        self.tolerance = torch.where(among(COVERED_REGIONS), THIN_TOLERANCE, VISIBLE_TOLERANCE)
        self.edges = among(EDGE_REGIONS)
        self.face = torch.as_tensor(head.face320).long().to(self.device)

    @property
    def root_counts(self) -> tuple[int, int]:
        """How many places hair and beard may be rooted in."""
        return self.geometry.root_counts

    @torch.no_grad()
    def render(
        self, scene: Scene, size: int, supersample: float = 2, views: Views | None = None
    ) -> RenderBatch:
        """Render a batch.

        Args:
            scene: on this renderer's device.
            size: pixels a side of the pictures.
            supersample: rendered larger by about this factor (whole pixels), then averaged.
            views: cameras; by default squares around the face, as `scene.poses` asks for.
        """
        geometry = self.geometry.build(scene)
        if views is None:
            views = cut_out(scene.poses, geometry.landmarks[:, self.face], size)
        large = round(size * supersample)
        factor = large / size
        camera = camera_points(views, geometry.vertices)
        # The mouth's lining is thin and may poke through the chin: it is sorted further back.
        sorted_camera = camera + F.normalize(camera, dim=-1) * self.layout.set_back
        pixels = project(camera, supersampled(views.K, factor))
        pixels[..., 2] = 1 / sorted_camera[..., 2]
        keys = self._visible_surface(pixels, large)
        ids, inverse_depth = raster.decode_keys(keys)
        radiance = self._shade(scene, geometry, views, camera, pixels, ids)
        self._blend_thin(scene, geometry, camera, pixels, inverse_depth, radiance)
        rgba = self._picture(scene, radiance[..., :-1], (ids >= 0).flatten(1), large, size)
        landmarks = camera_points(views, geometry.landmarks)
        flat = project(landmarks, views.K)
        visible = self._visible(geometry, views, landmarks, inverse_depth, factor)
        nearest = ((torch.arange(size, device=ids.device) + 0.5) * factor - 0.5).round().long()
        parts = self.layout.part_table[ids[:, nearest[:, None], nearest] + 1]
        return RenderBatch(
            rgba, flat[..., :2].contiguous(), landmarks[..., 2].contiguous(), visible, parts,
            views, geometry.vertices[:, : len(self.head.template)],
        )  # fmt: skip

    def _visible_surface(self, pixels: Tensor, size: int) -> Tensor:
        """Keys of the nearest surface: solid bodies, thin single layers, hair with its gaps."""
        built = self.layout
        keys = raster.depth_keys(pixels, built.solid, size, size, "back")
        first = len(built.solid)
        more = raster.depth_keys(pixels, built.thin, size, size, "none")
        keys = torch.maximum(keys, more + first * (more > 0))
        first += len(built.thin)
        splat_strips(keys, pixels, built.quads, first, built.strand, built.fray)
        return keys

    def _shade(
        self, scene: Scene, geometry: Geometry, views: Views, camera: Tensor, pixels: Tensor,
        ids: Tensor,
    ) -> Tensor:  # fmt: skip
        """Linear radiance (B, 3, S * S + 1); the last pixel is a spare one."""
        flip = torch.tensor([1.0, -1.0, -1.0], device=self.device)
        turn = (views.rotation * flip[:, None]).transpose(1, 2)
        position, lighting = camera * flip, make_lighting(scene.light)
        shadow = ShadowMap(position, lighting, self.layout)
        posed = _Posed(
            torch.cat([geometry.normals @ turn, position, geometry.exposure], -1),
            geometry.tangents @ turn, geometry.gaze @ turn, pixels,
        )  # fmt: skip
        area = ids.shape[1] * ids.shape[2]
        radiance = torch.zeros(len(ids), 3, area + 1, device=self.device)
        for start in range(0, len(ids), self.chunk):
            some = slice(start, start + self.chunk)
            self._shade_some(
                rows(scene, some), rows(lighting, some), shadow.part(some), rows(posed, some),
                ids[some], radiance[some],
            )  # fmt: skip
        return radiance

    def _shade_some(
        self, scene: Scene, lighting: Lighting, shadow: ShadowMap, posed: _Posed, ids: Tensor,
        radiance: Tensor,
    ) -> None:  # fmt: skip
        """Shade some pictures, group of materials by group, into `radiance`."""
        built, (count, height, width) = self.layout, ids.shape
        group = built.group_table[ids.view(-1) + 1]
        shaders = (self._skin, self._eyes, self._mouth, self._hair, self._props)
        for code, shade in enumerate(shaders):
            chosen = (group == code).nonzero()[:, 0]
            if not len(chosen):
                continue
            pixel, target = _rows(chosen, count, height * width)
            covered = raster.fragments(posed.pixels, built.triangles, ids, pixel)
            values = _gather(posed.table, covered, count)
            static = _gather(built.group_marks[code], covered, count)
            names = GROUP_MARKS[GROUPS[code]]
            marks = {name: static[:, k : k + 1] for k, name in enumerate(names)}
            marks["exposure"] = values[:, 6:]
            normal, position = unit(values[:, :3]), values[:, 3:6]
            part = built.triangle_part.index_select(0, covered.triangle).view(count, -1)
            surface = Surface(
                static[:, -3:], normal, unit(-position), marks, part,
                shadow.sunlit(position, normal),
            )  # fmt: skip
            colors = shade(scene, lighting, surface, posed, covered)
            radiance.scatter_(2, target.expand(-1, 3, -1), colors)

    def _skin(
        self, scene: Scene, lighting: Lighting, surface: Surface, posed: _Posed,
        covered: raster.Fragments,
    ) -> Tensor:  # fmt: skip
        creases = crease_depths(scene.looks, scene.people.expression)
        return shade_skin(
            surface, lighting, scene.looks, creases, scene.hair, scene.clothes, self.textures
        )

    def _eyes(
        self, scene: Scene, lighting: Lighting, surface: Surface, posed: _Posed,
        covered: raster.Fragments,
    ) -> Tensor:  # fmt: skip
        left = (surface.place[:, :1] > 0).float()
        axis = posed.gaze[:, 0, :, None] * left + posed.gaze[:, 1, :, None] * (1 - left)
        return shade_eyes(surface, lighting, scene.looks, axis, self.textures)

    def _mouth(
        self, scene: Scene, lighting: Lighting, surface: Surface, posed: _Posed,
        covered: raster.Fragments,
    ) -> Tensor:  # fmt: skip
        return shade_mouth(surface, lighting, scene.looks, self.part_number, self.textures)

    def _hair(
        self, scene: Scene, lighting: Lighting, surface: Surface, posed: _Posed,
        covered: raster.Fragments,
    ) -> Tensor:  # fmt: skip
        tangent = unit(_gather(posed.tangents, covered, len(posed.tangents)))
        return shade_hair(surface, lighting, scene.hair, tangent, self.textures)

    def _props(
        self, scene: Scene, lighting: Lighting, surface: Surface, posed: _Posed,
        covered: raster.Fragments,
    ) -> Tensor:  # fmt: skip
        return shade_props(
            surface, lighting, scene.clothes, scene.glasses, scene.headphones, self.textures
        )

    def _blend_thin(
        self, scene: Scene, geometry: Geometry, camera: Tensor, pixels: Tensor,
        inverse_depth: Tensor, radiance: Tensor,
    ) -> None:  # fmt: skip
        """Lashes and the lenses of glasses: drawn over what lies behind them."""
        count, size, _ = inverse_depth.shape
        built = self.layout
        lighting = make_lighting(scene.light)
        for triangles, kind in ((built.lashes, "lash"), (built.lenses, "lens")):
            ids, depth = raster.rasterize(pixels, triangles, size, size, "none")
            ids = torch.where(depth > inverse_depth, ids, -1)
            chosen = (ids.view(-1) >= 0).nonzero()[:, 0]
            if not len(chosen):
                continue
            pixel, target = _rows(chosen, count, size * size)
            covered = raster.fragments(pixels, triangles, ids, pixel)
            behind = radiance.gather(2, target.expand(-1, 3, -1))
            if kind == "lash":
                opacity = _gather(built.lash_opacity, covered, count)
                opacity = (opacity * scene.looks.lash[:, None, None]).clamp(0, 0.97)
                front = scene.looks.brow_color[:, :, None] * 0.25
                blended = behind * (1 - opacity) + front * opacity
            else:
                position = _gather(camera, covered, count)
                flip = torch.tensor([[1.0], [-1.0], [-1.0]], device=self.device)
                view = unit(-position * flip)
                normal = self._lens_normal(position, flip)
                rim = 0.04 + 0.96 * (1 - (normal * view).sum(1, keepdim=True).clamp(0, 1)) ** 5
                mirror = lighting.mirrored(normal, view).clamp_max(6.0) * rim
                tint = scene.glasses.tint[:, None, None]
                blended = behind * (1 - tint) + 0.01 * tint
                blended = blended + mirror * scene.glasses.reflect[:, None, None]
            radiance.scatter_(2, target.expand(-1, 3, -1), blended)

    @staticmethod
    def _lens_normal(position: Tensor, flip: Tensor) -> Tensor:
        """Lenses are a little domed: a normal that fans out around the middle of the pair."""
        centre = position.mean(2, keepdim=True)
        domed = (position - centre) * flip * 4.0
        ahead = -F.normalize(centre, dim=1) * flip
        return unit(ahead + domed)

    def _picture(
        self, scene: Scene, radiance: Tensor, alpha: Tensor, size: int, out: int
    ) -> Tensor:
        count = len(radiance)
        # Bright glints are limited before averaging, as a sensor's full well does.
        linear = (radiance * scene.light.exposure[:, None, None]).clamp(0, 4)
        image = torch.cat([linear, alpha[:, None].to(linear)], 1).view(count, 4, size, size)
        if size % out == 0:
            small = F.avg_pool2d(image, size // out)
        else:
            small = F.interpolate(image, (out, out), mode="bilinear", antialias=True)
        color = small[:, :3] / small[:, 3:].clamp_min(1e-3)
        display = tone_map(color, scene.light.contrast)
        return (torch.cat([display, small[:, 3:]], 1) * 255).round().to(torch.uint8)

    def _visible(
        self, geometry: Geometry, views: Views, landmarks: Tensor, inverse_depth: Tensor,
        factor: float,
    ) -> Tensor:  # fmt: skip
        """A landmark is visible when it lies in the picture, faces the camera and nothing opaque
        stands in front of it; neighbours are consulted, as silhouettes are jagged."""
        size = inverse_depth.shape[1]
        pixel = project(landmarks, supersampled(views.K, factor))[..., :2]
        x, y = pixel.round().long().unbind(-1)
        inside = (x >= 0) & (y >= 0) & (x < size) & (y < size)
        # The farthest of the 3 x 3 pixels around it.
        farthest = -F.max_pool2d(-inverse_depth[:, None], 3, 1, 1)[:, 0]
        index = y.clamp(0, size - 1) * size + x.clamp(0, size - 1)
        front = 1 / farthest.flatten(1).gather(1, index).clamp_min(1e-6)
        clear = landmarks[..., 2] <= front + self.tolerance
        normal = geometry.landmark_normals @ views.rotation.transpose(1, 2)
        facing = -(normal * F.normalize(landmarks, dim=-1)).sum(-1) > 0.02
        return inside & clear & (facing | self.edges)


def _rows(chosen: Tensor, count: int, area: int) -> tuple[Tensor, Tensor]:
    """Arrange chosen pixels (N,) of flattened pictures in rows of equal length, one a picture.

    Returns:
        The pixels, (count * longest,), and where to write each within its picture, (count, 1,
        longest). Short rows repeat their last pixel; the row of a picture without any is filled
        with another's and is to be written to the spare pixel `area`.
    """
    lengths = torch.bincount(chosen // area, minlength=count)
    start = lengths.cumsum(0) - lengths
    row = torch.arange(int(lengths.max()), device=chosen.device)
    offset = torch.minimum(row[None], (lengths - 1).clamp_min(0)[:, None])
    pixel = chosen[(start[:, None] + offset).clamp(max=len(chosen) - 1)]
    first = torch.arange(count, device=chosen.device)[:, None] * area
    target = torch.where((lengths == 0)[:, None], area, pixel - first)
    return pixel.view(-1), target[:, None]


def _gather(table: Tensor, covered: raster.Fragments, count: int) -> Tensor:
    """Interpolate (V, C) or (B, V, C) at rows of fragments: (B, C, P)."""
    values = raster.interpolate(table, covered)
    return values.view(count, -1, values.shape[-1]).transpose(1, 2).contiguous()
