"""Scans to fit: real heads from files, and held-out people of ICT-FaceKit."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from densefit.errors import InputError
from densefit.evaluate.scan_fit import Scan
from densefit.head.build.mesh import cast, raycaster, similarity, vertex_areas, vertex_normals
from densefit.head.model import HeadModel

Array = np.ndarray[Any, np.dtype[Any]]

FACE_RADIUS = 0.095
"""Metres round the tip of the nose that count as the face (NoW, Sanyal et al. 2019)."""
EXPOSED = 0.15
"""Share of the hemisphere above a point that must be open; less is an interior."""
NOSE_TIP = 30
# iBUG's number and the index in the order of landmarks of heads/james.
JAMES = {
    8: 8, 36: 17, 39: 20, 42: 23, 45: 26, 27: 34, 30: 37, 31: 38, 33: 40, 35: 42, 48: 48, 51: 51,
    54: 54, 57: 57,
}  # fmt: skip
CLIP = 2.2
"""Standard deviations; beyond it ICT-FaceKit's people stop looking human."""


@dataclass(frozen=True)
class Surface:
    """A triangle mesh, metres, with landmarks in iBUG order (NaN where unknown)."""

    name: str
    vertices: Array
    triangles: Array
    landmarks: Array
    truth: Array | None = None
    """(703, 3) true places of densefit's landmarks, where they are known."""


def face_samples(surface: Surface, number: int, seed: int = 0) -> Scan:
    """Points spread evenly over the face, without interiors (nostrils, mouth, sockets)."""
    vertices, triangles = surface.vertices, surface.triangles
    rng = np.random.default_rng(seed)
    corners = vertices[triangles]
    cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    tip = surface.landmarks[NOSE_TIP]
    near = np.linalg.norm(corners.mean(1) - tip, axis=1) < FACE_RADIUS + 0.01
    area = np.linalg.norm(cross, axis=1) * near
    chosen = rng.choice(len(triangles), 3 * number, p=area / area.sum())
    bary = rng.dirichlet([1, 1, 1], len(chosen))
    points = (corners[chosen] * bary[..., None]).sum(1)
    normals = (vertex_normals(vertices, triangles)[triangles[chosen]] * bary[..., None]).sum(1)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True) + 1e-12
    keep = np.linalg.norm(points - tip, axis=1) < FACE_RADIUS
    points, normals = points[keep], normals[keep]
    keep = _exposure(surface, points, normals, rng) > EXPOSED
    points, normals = points[keep][:number], normals[keep][:number]
    return Scan(surface.name, points, normals, surface.landmarks)


def _exposure(surface: Surface, points: Array, normals: Array, rng: Any, rays: int = 24) -> Array:
    directions = rng.normal(size=(len(points), rays, 3))
    directions /= np.linalg.norm(directions, axis=2, keepdims=True)
    directions *= np.sign((directions * normals[:, None]).sum(2, keepdims=True))
    origins = np.broadcast_to((points + 4e-4 * normals)[:, None], directions.shape)
    scene = raycaster(surface.vertices, surface.triangles)
    return (~np.isfinite(cast(scene, origins, directions)["t_hit"])).mean(1)


def noisy(scan: Scan, number: int, deviation: float, seed: int = 0) -> Scan:
    """A few of the scan's points with isotropic Gaussian noise (metres)."""
    rng = np.random.default_rng(seed)
    chosen = rng.choice(len(scan.points), number, replace=False)
    points = scan.points[chosen] + rng.normal(0, deviation, (number, 3))
    return replace(scan, points=points, normals=scan.normals[chosen])


def held_out_people(ict: HeadModel, number: int) -> list[Surface]:
    """People of an imported ICT-FaceKit from odd seeds, N(0, 1) clipped; even ones made priors."""
    triangles = ict.triangles[ict.part_triangles("skin", "ears", "scalp", "neck")]
    out = []
    for i in range(number):
        draw = np.random.default_rng(2 * i + 1).normal(size=ict.identity_count)
        vertices = ict.neutral(np.clip(draw, -CLIP, CLIP)).astype(np.float64)
        truth = ict.landmarks(vertices)
        out.append(Surface(f"ict {2 * i + 1}", vertices, triangles, truth[ict.ibug68], truth))
    return out


def real_heads(folder: Path, head: HeadModel) -> list[Surface]:
    """The heads in `folder`: james (.obj, .ljson) and lee_perry_smith (.glb), where present."""
    out = []
    if (folder / "james" / "james.obj").is_file():
        out.append(_james(folder / "james"))
    if (folder / "lee_perry_smith" / "LeePerrySmith.glb").is_file():
        out.append(_lee_perry_smith(folder / "lee_perry_smith" / "LeePerrySmith.glb", head))
    if not out:
        raise InputError(f"{folder}: neither james/james.obj nor lee_perry_smith/ is there")
    return out


def _james(folder: Path) -> Surface:
    vertices, triangles = _read_mesh(folder / "james.obj")
    groups = json.loads((folder / "james.ljson").read_text())["groups"]
    points = np.array(groups["LJSON"]["landmarks"]["points"], float) * 1e-3
    landmarks = np.full((68, 3), np.nan)
    for ibug, index in JAMES.items():
        landmarks[ibug] = points[index]
    return Surface("james", vertices * 1e-3, triangles, landmarks)


# iBUG points picked by hand on LeePerrySmith.glb, in its own units.
LEE_POINTS = {
    8: (-0.088, -0.459, 2.127),
    27: (-0.088, 1.837, 2.127),
    30: (-0.088, 1.087, 2.587),
    31: (-0.304, 0.907, 2.230),
    33: (-0.109, 0.898, 2.330),
    35: (0.117, 0.907, 2.248),
    36: (-1.030, 1.632, 1.668),
    39: (-0.393, 1.710, 1.843),
    42: (0.192, 1.710, 1.838),
    45: (0.846, 1.651, 1.639),
    48: (-0.535, 0.385, 2.101),
    51: (-0.079, 0.570, 2.345),
    54: (0.386, 0.406, 2.078),
    57: (-0.079, 0.291, 2.287),
}  # fmt: skip


def _lee_perry_smith(path: Path, head: HeadModel) -> Surface:
    """Scaled once by a similarity to the template's points, 63 mm between the eye centres."""
    vertices, triangles = _read_mesh(path)
    landmarks = np.full((68, 3), np.nan)
    for index, point in LEE_POINTS.items():
        landmarks[index] = point
    known = np.isfinite(landmarks[:, 0])
    template = head.landmarks(head.template)[head.ibug68][known].astype(np.float64)
    eyes = head.joint_centres[2:].astype(np.float64)
    scale = similarity(landmarks[known], template)[0]
    scale *= 0.063 / float(np.linalg.norm(eyes[0] - eyes[1]))
    return Surface("lee_perry_smith", vertices * scale, triangles, landmarks * scale)


def _read_mesh(path: Path) -> tuple[Array, Array]:
    """Vertices (V, 3) in the file's units and triangles (F, 3); equal vertices are joined."""
    import open3d as o3d

    mesh = o3d.io.read_triangle_mesh(path)
    if not len(mesh.triangles):
        raise InputError(f"{path}: no triangles could be read")
    mesh = mesh.remove_duplicated_vertices().remove_degenerate_triangles()
    mesh = mesh.remove_unreferenced_vertices()
    vertices, triangles = np.asarray(mesh.vertices), np.asarray(mesh.triangles)
    assert vertex_areas(vertices, triangles).sum() > 0
    return vertices, triangles.astype(np.int64)
