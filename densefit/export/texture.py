"""A colour map of the skin, gathered from the cameras' pictures.

For a few frames that turn the head differently, every texel is looked up in every camera that sees
it. The colours are averaged with weights that favour cameras that look straight at the surface;
what the head itself hides is left out by a depth buffer, and so is the head's outline, where hair
and background begin. What no camera saw well goes over into colours that are spread along the
surface from what was seen. Light and shade of the recording stay in the colours.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from densefit.export.materials import TEXTURED_PARTS, display_colour, material_of
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
OUTLINE = 0.01
"""Of the head's size in the picture: what is as near as this to something OUTLINE_STEP farther away
may show what lies behind the head."""
OUTLINE_STEP = 0.02
"""m."""
SHARPNESS = 3
"""Power of the cosine between surface and view in the weights."""
GLANCE = (0.25, 0.55)
"""Best cosine of a texel: below the first its colour is spread from around, above the second its
own."""
PADDING = 1 / 256
"""Of SIZE: how far around the skin its colours are kept, for filters and mipmaps that look past a
seam."""


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
    best = np.zeros(len(texels.row))
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
                best = np.maximum(best, share)
                bar.advance(1)
    mean = total / np.maximum(weight, 1e-9)[:, None]
    rise = (best ** (1 / SHARPNESS) - GLANCE[0]) / (GLANCE[1] - GLANCE[0])
    own = np.clip(rise, 0, 1)[:, None]
    return _laid_out(scene, texels, own * mean + (1 - own) * _from_around(scene, texels, mean, own))


def _from_around(
    scene: ExportScene, texels: Texels, colour: np.ndarray, share: np.ndarray
) -> np.ndarray:
    """(P, 3): colours of the vertices, which between those that were seen go over smoothly along
    the mesh (the harmonic function with their colours), interpolated to the texels.

    Args:
        colour: (P, 3).  share: (P, 1) 0 to 1, how well each was seen.
    """
    import scipy.sparse as sp
    from scipy.sparse.linalg import spsolve

    count = len(scene.head.template)
    weights = texels.weights * share
    flat = texels.vertices.reshape(-1)
    weight = np.bincount(flat, weights.reshape(-1), count)
    shares = (weights[..., None] * colour[:, None]).reshape(-1, 3)
    sums = np.stack([np.bincount(flat, shares[:, c], count) for c in range(3)], axis=1)
    seen = weight > 0.5  # half a texel seen well
    mean = sums.sum(axis=0) / max(weight.sum(), 1e-9)
    skin = scene.head.triangles[scene.head.part_triangles(*_textured(scene))]
    ends = skin[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2)
    links = sp.coo_matrix((np.ones(len(ends)), ends.T), shape=(count, count)).tocsr()
    links = ((links + links.T) > 0).astype(float)
    # A faint pull to the mean colour keeps pieces solvable that nobody saw.
    laplacian = sp.diags(np.asarray(links.sum(axis=1)).ravel() + 1e-4) - links
    hold = sp.diags(np.where(seen, 1e3, 0.0))
    target = sums / np.maximum(weight, 1e-9)[:, None]
    right = np.where(seen[:, None], 1e3 * target, 0.0) + 1e-4 * mean
    return texels.at(np.asarray(spsolve((laplacian + hold).tocsc(), right)))


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
    return _texels(scene, _textured(scene))


def _textured(scene: ExportScene) -> list[str]:
    return [name for name in scene.head.part_names if name in TEXTURED_PARTS]


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
    """(P,) bool: another part of the head lies before the texel, or the head's outline beside."""
    import cv2
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
    front = inverse[0].numpy()
    radius = max(1, round(OUTLINE * float(size.max())))
    behind = 1 / np.maximum(cv2.erode(front, _window(radius))[row, column], 1e-6)
    nearest = 1 / np.maximum(front[row, column], 1e-6)
    return (depth > nearest + HIDDEN_BEHIND) | (behind > depth + OUTLINE_STEP)


def _window(radius: int) -> np.ndarray:
    return np.ones((2 * radius + 1, 2 * radius + 1), np.uint8)


def _laid_out(scene: ExportScene, texels: Texels, colour: np.ndarray) -> np.ndarray:
    """The whole picture: the skin, what is around it filled, the other parts in their materials."""
    import cv2

    picture = np.zeros((SIZE, SIZE, 3))
    known = np.zeros((SIZE, SIZE))
    picture[texels.row, texels.column] = colour
    known[texels.row, texels.column] = 1
    picture = np.where(known[..., None] > 0, picture, spread(picture, known))
    taken = cv2.dilate(known.astype(np.uint8), _window(round(PADDING * SIZE))) > 0
    for name, others in _flat_parts(scene):
        free = ~taken[others.row, others.column]
        colour = np.multiply(255, display_colour(material_of(name)))
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
