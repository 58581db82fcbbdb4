"""A colour map of the skin, gathered from the cameras' pictures.

For a few frames that turn the head differently, every texel is looked up in every camera that sees
it. The colours are averaged with weights that favour cameras that look straight at the surface;
what the head itself hides is left out by a depth buffer. Texels that no camera saw are filled from
their surroundings. Light and shade of the recording stay in the colours.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from densefit.export.materials import TEXTURED_PARTS, material_of
from densefit.export.mesh_arrays import vertex_normals
from densefit.export.scene import ExportScene, frame_vertices
from densefit.files import atomic_path
from densefit.footage import need_footage
from densefit.head.rotation import rotation_matrix
from densefit.picture_size import picture_camera
from densefit.progress import progress

if TYPE_CHECKING:
    from calibration import Camera

SIZE = 2048
"""Texels along each side."""
FRAMES = 6
DEPTH_SIDE = 512
"""px: the depth buffer is at most this large."""
HIDDEN_BEHIND = 0.004
"""m: how far a point may lie behind the depth buffer and still be seen."""
SHARPNESS = 3
"""Power of the cosine between surface and view in the weights."""


@dataclass(frozen=True)
class Texels:
    """Where the P covered texels of the skin lie on the mesh."""

    row: np.ndarray
    """(P,) from the top."""
    column: np.ndarray
    vertices: np.ndarray
    """(P, 3) of the triangle."""
    weights: np.ndarray
    """(P, 3) barycentric."""

    def at(self, values: np.ndarray) -> np.ndarray:
        """(P, D) of values (V, D) at the vertices."""
        return np.einsum("pk,pkd->pd", self.weights, values[self.vertices])


def bake_texture(scene: ExportScene) -> np.ndarray:
    """(SIZE, SIZE, 3) uint8 sRGB, v = 1 at the top row.

    Raises:
        InputError: the recordings are gone, or no camera is known.
    """
    footage = need_footage(scene.out, "--texture")
    texels = skin_texels(scene)
    total = np.zeros((len(texels.row), 3))
    weight = np.zeros(len(texels.row))
    frames = telling_frames(scene)
    cameras = {} if scene.rig is None else scene.rig.cameras
    known = {n: c for n, c in cameras.items() if c.K is not None and c.T_camera_world is not None}
    with progress(len(known) * len(frames), "texture", unit="pictures") as bar:
        for name, camera in known.items():
            for frame, image in footage.pictures(name, frames):
                vertices = frame_vertices(scene.recorded, scene.head, np.array([frame]))[0]
                sized = picture_camera(camera, image.shape[1], image.shape[0])
                colour, share = _seen(scene, texels, vertices.astype(np.float64), sized, image)
                total += colour * share[:, None]
                weight += share
                bar.advance(1)
    return _filled(scene, texels, total, weight)


def write_texture(scene: ExportScene, path: Path) -> Path:
    """Write the colour map as a PNG, whole or not at all."""
    import cv2

    with atomic_path(path) as temporary:
        cv2.imwrite(str(temporary), scene.colour_map[..., ::-1])
    return path


def telling_frames(scene: ExportScene) -> list[int]:
    """Up to FRAMES frames, from the better half by residual, spread over the head's turn."""
    fit = scene.recorded
    posed = scene.recorded_frames[fit.posed[scene.recorded_frames]]
    seen = posed[fit.valid[posed]]
    frames = seen if len(seen) else posed
    residual = np.nanmedian(np.where(np.isfinite(fit.residual_px), fit.residual_px, np.nan), axis=1)
    order = np.argsort(np.nan_to_num(residual[frames], nan=np.inf), kind="stable")
    better = frames[order[: max(FRAMES, len(frames) // 2)]]
    forward = rotation_matrix(fit.rotation[better])[:, :, 2]
    # Turn along the direction in which the nose moves most.
    centred = forward - forward.mean(axis=0)
    direction = np.linalg.svd(centred, full_matrices=False)[2][0]
    sorted_by_turn = better[np.argsort(centred @ direction, kind="stable")]
    chosen = np.linspace(0, len(better) - 1, min(FRAMES, len(better))).round().astype(int)
    return sorted(int(frame) for frame in sorted_by_turn[np.unique(chosen)])


def skin_texels(scene: ExportScene) -> Texels:
    """The texels of TEXTURED_PARTS, by rasterising the triangles in texture space."""
    return _texels(scene, [n for n in scene.head.part_names if n in TEXTURED_PARTS])


def _texels(scene: ExportScene, parts: list[str]) -> Texels:
    import torch

    from densefit.synth.raster import fragments, rasterize

    head = scene.head
    chosen = head.part_triangles(*parts)
    place = np.column_stack([head.uv[:, 0] * SIZE - 0.5, (1 - head.uv[:, 1]) * SIZE - 0.5])
    points = np.column_stack([place, np.ones(len(place))]).astype(np.float32)
    vertices = torch.from_numpy(points)[None]
    triangles = torch.from_numpy(head.uv_triangles[chosen].astype(np.int64))
    ids, _ = rasterize(vertices, triangles, SIZE, SIZE, cull="none")
    covered = fragments(vertices, triangles, ids)
    row, column = np.divmod(covered.pixel.numpy(), SIZE)
    corners = head.triangles[chosen][covered.triangle.numpy()]
    return Texels(row, column, corners, covered.weights.numpy().astype(np.float64))


def _seen(
    scene: ExportScene, texels: Texels, vertices: np.ndarray, camera: Camera, image: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Colours (P, 3) that a camera sees at the texels, and weights (P,), 0 where it does not."""
    import cv2

    transform = camera.T_camera_world
    assert transform is not None
    local = vertices @ transform[:3, :3].T + transform[:3, 3]
    points = texels.at(local)
    normals = texels.at(vertex_normals(local, scene.head.triangles))
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)
    cosine = -(normals * points).sum(axis=1) / np.linalg.norm(points, axis=1)
    pixels = camera.project_camera(points)
    height, width = image.shape[:2]
    inside = np.isfinite(pixels).all(axis=1) & (points[:, 2] > 1e-3)
    inside &= (pixels > 0).all(axis=1) & (pixels < (width - 1, height - 1)).all(axis=1)
    where = np.where(inside[:, None], pixels, 0.0).astype(np.float32)
    visible = inside & ~_hidden(scene, local, camera, where, points[:, 2])
    # cv2.remap takes pictures of at most 32,767 rows, so the texels are laid out in a rectangle.
    rows = -(-len(where) // 1024)
    padded = np.zeros((rows * 1024, 2), np.float32)
    padded[: len(where)] = where
    x, y = padded.reshape(rows, 1024, 2).transpose(2, 0, 1).copy()
    colour = cv2.remap(image, x, y, cv2.INTER_LINEAR).reshape(-1, 3)[: len(where)]
    return colour.astype(np.float64), np.where(visible, np.clip(cosine, 0, 1) ** SHARPNESS, 0.0)


def _hidden(
    scene: ExportScene, local: np.ndarray, camera: Camera, pixels: np.ndarray, depth: np.ndarray
) -> np.ndarray:
    """(P,) bool: another part of the head lies in front of the texel."""
    import torch

    from densefit.synth.raster import depth_map

    projected = camera.project_camera(local)
    drawable = np.isfinite(projected).all(axis=1) & (local[:, 2] > 1e-3)
    low = np.floor(np.clip(projected[drawable].min(0), 0, (camera.width, camera.height))) - 1
    high = np.ceil(np.clip(projected[drawable].max(0), 0, (camera.width, camera.height))) + 1
    scale = min(1.0, DEPTH_SIDE / float((high - low).max()))
    size = np.maximum(1, np.ceil((high - low) * scale)).astype(int)
    stacked = np.zeros((len(local), 3), np.float32)
    stacked[:, :2] = np.where(drawable[:, None], (projected - low) * scale, 0)
    stacked[:, 2] = np.where(drawable, 1 / np.maximum(local[:, 2], 1e-3), 0)
    keep = np.array([name != "lashes" for name in scene.head.part_names])[scene.head.triangle_part]
    triangles = torch.from_numpy(scene.head.triangles[keep].astype(np.int64))
    inverse = depth_map(torch.from_numpy(stacked)[None], triangles, int(size[1]), int(size[0]))
    column, row = np.clip(np.round((pixels - low) * scale), 0, size - 1).astype(int).T
    front = 1 / np.maximum(inverse[0].numpy()[row, column], 1e-6)
    return depth > front + HIDDEN_BEHIND


def _filled(
    scene: ExportScene, texels: Texels, total: np.ndarray, weight: np.ndarray
) -> np.ndarray:
    """The whole picture: baked skin, its gaps filled, the other parts in their materials."""
    picture = np.zeros((SIZE, SIZE, 3))
    known = np.zeros((SIZE, SIZE))
    # A weight this small is a glance along the surface.
    good = weight > 0.02
    row, column = texels.row[good], texels.column[good]
    picture[row, column] = total[good] / weight[good, None]
    known[row, column] = 1
    picture = np.where(known[..., None] > 0, picture, spread(picture, known))
    taken = np.zeros((SIZE, SIZE), bool)
    taken[texels.row, texels.column] = True
    for name, others in _flat_parts(scene):
        free = ~taken[others.row, others.column]
        colour = 255 * np.power(material_of(name).rgb, 1 / 2.2)
        picture[others.row[free], others.column[free]] = colour
    return np.clip(np.round(picture), 0, 255).astype(np.uint8)


def _flat_parts(scene: ExportScene) -> Iterator[tuple[str, Texels]]:
    for name in scene.head.part_names:
        if name not in TEXTURED_PARTS and len(scene.head.part_triangles(name)):
            yield name, _texels(scene, [name])


def spread(picture: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Fill unknown pixels by push and pull: coarse means of the known ones, then finer ones.

    Args:
        picture: (S, S, 3) float64, S a power of two.  known: (S, S) 0 or 1.
    Returns:
        (S, S, 3): as `picture` where known.
    """
    side = len(picture)
    if side == 1:
        return picture
    half = side // 2
    blocks = known.reshape(half, 2, half, 2)
    count = blocks.sum(axis=(1, 3))
    sums = (picture * known[..., None]).reshape(half, 2, half, 2, 3).sum(axis=(1, 3))
    coarse = spread(sums / np.maximum(count, 1)[..., None], (count > 0).astype(float))
    finer = _enlarged(coarse)
    return np.where(known[..., None] > 0, picture, finer)


def _enlarged(picture: np.ndarray) -> np.ndarray:
    import cv2

    side = 2 * len(picture)
    return cv2.resize(picture, (side, side), interpolation=cv2.INTER_LINEAR)
