"""Draws a fitted head over a picture: shaded, half transparent, with telling outlines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from densefit.export.materials import material_of
from densefit.export.neck_cut import shown_triangles
from densefit.report.layers import LayerPainter, PainterOptions

if TYPE_CHECKING:
    from calibration import Camera
    from densefit.head.model import HeadModel


class HeadPainter:
    """Draws heads of one model; the tables that do not change are made once."""

    def __init__(self, head: HeadModel, options: PainterOptions | None = None) -> None:
        self.options = options or PainterOptions()
        # Lashes are alpha cards, which would draw as black bands.
        keep = np.array([name != "lashes" for name in head.part_names])[head.triangle_part]
        keep &= shown_triangles(head)
        self._head = head
        part = head.triangle_part[keep]
        materials = [material_of(name) for name in head.part_names]
        colours = np.array([material.rgb for material in materials], np.float32) ** (1 / 2.2)
        # Lines are drawn where materials meet, not where the skin's parts do.
        groups = np.array([materials.index(material) for material in materials])
        self._layers = LayerPainter(head.triangles[keep], colours[part], groups[part], self.options)
        self._curves = landmark_curves(head)
        # Lids lie so close to the eyeball that depth does not tell what they hide.
        irises = [i for i, name in enumerate(head.region_names) if "iris" in name]
        self._on_eye = np.isin(head.landmark_region, irises)
        eyes = np.isin(head.triangles[keep], head.landmark_vertices[self._on_eye]).any(axis=1)
        self._eye_groups = np.unique(groups[part[eyes]])

    def draw(self, image: np.ndarray, vertices: np.ndarray, camera: Camera) -> np.ndarray:
        """The picture with the head drawn over it: `draw_all` of one."""
        return self.draw_all([image], vertices[None], [camera])[0]

    def draw_all(
        self, images: Sequence[np.ndarray], vertices: np.ndarray, cameras: Sequence[Camera]
    ) -> list[np.ndarray]:
        """Each picture with its head drawn over it; several at once take far less time.

        Args:
            images: B of (H, W, 3) uint8 RGB, as recorded (with lens distortion).
            vertices: (B, V, 3) metres, world.
            cameras: B, calibrated, of the pictures' sizes.
        Returns:
            B of (H, W, 3) uint8 RGB, new arrays.
        """
        pictures = [image.copy() for image in images]
        views = [
            view
            for i, (picture, camera) in enumerate(zip(pictures, cameras, strict=True))
            if (view := _View.of(i, picture, vertices[i], camera, self.options.raster_side))
        ]
        if not views:
            return pictures
        layers = self._layers.draw(
            np.stack([view.vertices_px for view in views]),
            np.stack([view.points for view in views]),
            max(view.height for view in views),
            max(view.width for view in views),
        )
        for k, view in enumerate(views):
            picture = pictures[view.number]
            x0, y0, x1, y1 = view.box
            patch = picture[y0:y1, x0:x1]
            rgb, opacity, depth, groups = (
                layer[k, : view.height, : view.width]
                for layer in (layers.rgb, layers.opacity, layers.inverse_depth, layers.groups)
            )
            picture[y0:y1, x0:x1] = _blend(patch, rgb, opacity)
            if self.options.curves:
                camera = cameras[view.number]
                self._draw_curves(picture, vertices[view.number], camera, depth, groups, view)
        return pictures

    def _draw_curves(
        self,
        picture: np.ndarray,
        vertices: np.ndarray,
        camera: Camera,
        inverse_depth: np.ndarray,
        groups: np.ndarray,
        view: _View,
    ) -> None:
        """Irises, lids, brows and lips through their landmarks, where nothing hides them."""
        points = _camera_points(self._head.landmarks(vertices), camera)
        pixels = camera.project_camera(points)
        height, width = inverse_depth.shape
        local = np.round((pixels - view.box[:2] + 0.5) * view.scale - 0.5)
        inside = (np.isfinite(local) & (local >= 0) & (local < (width, height))).all(axis=1)
        column, row = np.where(inside[:, None], local, 0).astype(int).T
        surface = inverse_depth[row, column]
        depth = points[:, 2]
        behind = depth - 1 / np.maximum(surface, 1e-6)
        visible = inside & (surface > 0) & (behind < CURVE_TOLERANCE)
        visible &= ~self._on_eye | np.isin(groups[row, column], self._eye_groups)
        x0, y0, x1, y1 = view.box
        thickness = 1 if max(x1 - x0, y1 - y0) < 500 else 2
        ends = np.round(np.where(visible[:, None], pixels, 0) * 16).astype(np.int32)
        for curve, colour in self._curves:
            shown = visible[curve[:-1]] & visible[curve[1:]]
            segments = ends[np.stack([curve[:-1], curve[1:]], 1)[shown]]
            cv2.polylines(picture, list(segments), False, colour, thickness, cv2.LINE_AA, shift=4)


@dataclass(frozen=True)
class _View:
    """A head before a camera, and the raster that it is drawn on."""

    number: int
    """which of the pictures"""
    points: np.ndarray
    """(V, 3) metres, camera"""
    box: tuple[int, int, int, int]
    """x0, y0, x1, y1 (end excluded) px of what the head can cover"""
    width: int
    height: int
    vertices_px: np.ndarray
    """(V, 3) float32: x, y in raster pixels, 1/z"""

    @property
    def scale(self) -> np.ndarray:
        """(2,): raster pixels a pixel."""
        x0, y0, x1, y1 = self.box
        return np.array([self.width / (x1 - x0), self.height / (y1 - y0)])

    @staticmethod
    def of(
        number: int, picture: np.ndarray, vertices: np.ndarray, camera: Camera, side: int
    ) -> _View | None:
        """None where the picture shows nothing of the head; side: of the raster at most, px."""
        points = _camera_points(vertices, camera)
        pixels = camera.project_camera(points)
        box = _visible_box(pixels, points[:, 2], picture.shape[1], picture.shape[0])
        if box is None:
            return None
        x0, y0, x1, y1 = box
        scale = min(1.0, side / max(x1 - x0, y1 - y0))
        width, height = max(1, round((x1 - x0) * scale)), max(1, round((y1 - y0) * scale))
        # Pixel centres are at integers, so a change of size acts on coordinates shifted by half a
        # pixel.
        local = (pixels - (x0, y0) + 0.5) * (width / (x1 - x0), height / (y1 - y0)) - 0.5
        drawable = np.isfinite(local).all(axis=1) & (points[:, 2] > 1e-3)
        local = np.where(drawable[:, None], local, 0.0)
        # The rasteriser leaves out triangles with a vertex at 1/z = 0.
        inverse = np.where(drawable, 1 / np.maximum(points[:, 2], 1e-3), 0.0)
        stacked = np.concatenate([local, inverse[:, None]], axis=1).astype(np.float32)
        return _View(number, points, box, width, height, stacked)


CURVE_TOLERANCE = 0.006
"""m: a landmark lies on the surface; this allows for the surface's slope inside one pixel."""
CURVE_COLOURS = {
    "lid": (90, 255, 160),
    "lip": (255, 120, 120),
    "brow": (255, 210, 90),
    "iris": (120, 200, 255),
}


def landmark_curves(head: HeadModel) -> list[tuple[np.ndarray, tuple[int, int, int]]]:
    """Landmark numbers along lids, lips, brows and irises with the RGB colour to draw them in."""
    curves = []
    for region, name in enumerate(head.region_names):
        members = np.flatnonzero(head.landmark_region == region)
        for key, colour in CURVE_COLOURS.items():
            if key in name and "middle" not in name and len(members) > 2:
                ring = np.append(members[:-1], members[0]) if key == "iris" else members
                curves.append((ring, colour))
    return curves


def _camera_points(points_world: np.ndarray, camera: Camera) -> np.ndarray:
    transform = camera.T_camera_world
    assert transform is not None, "overlays are drawn for cameras that the fit knows"
    return np.asarray(points_world, np.float64) @ transform[:3, :3].T + transform[:3, 3]


def _visible_box(
    pixels: np.ndarray, depth: np.ndarray, width: int, height: int
) -> tuple[int, int, int, int] | None:
    """x0, y0, x1, y1 (end excluded) of what the head can cover; None if it is outside."""
    drawable = np.isfinite(pixels).all(axis=1) & (depth > 1e-3)
    if drawable.mean() < 0.5:  # the camera is inside the head, or the lens model does not reach it
        return None
    low = np.floor(pixels[drawable].min(axis=0)) - 2
    high = np.ceil(pixels[drawable].max(axis=0)) + 3
    x0, y0 = np.clip(low, 0, (width, height)).astype(int)
    x1, y1 = np.clip(high, 0, (width, height)).astype(int)
    return (x0, y0, x1, y1) if x1 > x0 and y1 > y0 else None


def _blend(patch: np.ndarray, rgb: np.ndarray, opacity: np.ndarray) -> np.ndarray:
    """Enlarge a layer, rgb (h, w, 3) multiplied by opacity (h, w), to the patch (H, W, 3), and
    mix, all in bytes."""
    size = (patch.shape[1], patch.shape[0])
    if rgb.shape[:2] != patch.shape[:2]:
        rgb = cv2.resize(rgb, size, interpolation=cv2.INTER_LINEAR)
        opacity = cv2.resize(opacity, size, interpolation=cv2.INTER_LINEAR)
    through = cv2.cvtColor(255 - opacity, cv2.COLOR_GRAY2RGB)
    return cv2.add(cv2.multiply(patch, through, scale=1 / 255), rgb)
