"""Meshes against scans: reading, similarity transforms, nearest points, rigid refinement."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from densefit.errors import InputError

Array = np.ndarray[Any, np.dtype[Any]]

ROUNDS = 100
UNITS = {"mm": 1.0, "cm": 10.0, "m": 1000.0}
"""mm."""
SIZE_RATIO = 5.0
"""Of a prediction to its scan, or the other way round, that a wrong unit alone explains: one may be
a face and the other a head with shoulders, but units are ten and more times apart."""
SETTLED = 1e-7
"""Relative change of the mean squared distance that ends the refinement."""


@dataclass(frozen=True)
class Surface:
    """A triangle mesh: vertices (V, 3) float64 in any unit, triangles (F, 3) int."""

    vertices: Array
    triangles: Array

    def moved(self, pose: Similarity) -> Surface:
        """The same mesh elsewhere."""
        return Surface(pose.apply(self.vertices), self.triangles)


@dataclass(frozen=True)
class Similarity:
    """x' = scale * rotation @ x + translation."""

    scale: float
    rotation: Array
    """(3, 3)."""
    translation: Array
    """(3,)."""

    def apply(self, points: Array) -> Array:
        """Points (N, 3) moved."""
        return self.scale * points @ self.rotation.T + self.translation

    def after(self, first: Similarity) -> Similarity:
        """This one after `first`."""
        return Similarity(
            self.scale * first.scale, self.rotation @ first.rotation,
            self.scale * self.rotation @ first.translation + self.translation,
        )  # fmt: skip


IDENTITY = Similarity(1.0, np.eye(3), np.zeros(3))


def read_surface(path: Path) -> Surface:
    """Read .obj, .ply or whatever else open3d reads; InputError without a triangle."""
    import open3d as o3d

    if not path.is_file():
        raise InputError(f"{path}: no such mesh")
    mesh = o3d.io.read_triangle_mesh(path)
    surface = Surface(np.asarray(mesh.vertices, np.float64), np.asarray(mesh.triangles, np.int64))
    if not len(surface.triangles) or not np.isfinite(surface.vertices).all():
        raise InputError(f"{path}: not a usable triangle mesh; give .obj or .ply with faces")
    return surface


def check_unit(path: Path, mesh: Surface, scan: Surface, unit: str) -> None:
    """InputError where a mesh, read from `path`, cannot be in `unit`, as the scan (mm) shows."""
    ratio = float(np.linalg.norm(np.ptp(mesh.vertices, axis=0)))
    ratio /= float(np.linalg.norm(np.ptp(scan.vertices, axis=0)))
    if 1 / SIZE_RATIO < ratio * UNITS[unit] < SIZE_RATIO:
        return
    fitting = [name for name, mm in UNITS.items() if 1 / SIZE_RATIO < ratio * mm < SIZE_RATIO]
    remedy = f"give --unit {' or '.join(fitting)}" if fitting else "give the unit that it is in"
    raise InputError(
        f"{path}: {ratio * UNITS[unit]:.3g} times as large as the scan if its unit is {unit}; "
        f"{remedy}"
    )


def procrustes(source: Array, target: Array, with_scale: bool) -> Similarity:
    """The similarity that takes source (N, 3) nearest to target (N, 3) in least squares.

    Umeyama, "Least-squares estimation of transformation parameters" (1991); no reflection.
    """
    a, b = source.mean(axis=0), target.mean(axis=0)
    u, values, vt = np.linalg.svd((target - b).T @ (source - a))
    signs = np.array([1.0, 1.0, np.sign(np.linalg.det(u @ vt))])
    rotation = (u * signs) @ vt
    scale = float(values @ signs / np.square(source - a).sum()) if with_scale else 1.0
    return Similarity(scale, rotation, b - scale * rotation @ a)


def nearest(surface: Surface, points: Array) -> tuple[Array, Array]:
    """Nearest points (N, 3) on a surface to points (N, 3), and the unit normals (N, 3) there."""
    import open3d as o3d

    tensor: Any = o3d.core.Tensor
    scene = o3d.t.geometry.RaycastingScene()
    # Single precision: centred, so that scans far from the origin lose nothing.
    centre = surface.vertices.mean(axis=0)
    scene.add_triangles(
        tensor((surface.vertices - centre).astype(np.float32)),
        tensor(surface.triangles.astype(np.uint32)),
    )
    found = scene.compute_closest_points(tensor((points - centre).astype(np.float32)))
    corners = surface.vertices[surface.triangles[found["primitive_ids"].numpy()]]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-30)
    return found["points"].numpy().astype(np.float64) + centre, normal


def distances(surface: Surface, points: Array) -> Array:
    """Unsigned distances (N,) of points (N, 3) to a surface."""
    return np.asarray(np.linalg.norm(points - nearest(surface, points)[0], axis=1))


def refine(
    surface: Surface, points: Array, with_scale: bool, start: Similarity = IDENTITY
) -> Similarity:
    """Move a surface so that the sum of squared distances of points (N, 3) to it is least.

    Levenberg-Marquardt over the distances themselves: where a point's nearest point lies inside a
    triangle the distance changes as that to the triangle's plane (along the edge's or the corner's
    direction otherwise), by the theorem of the envelope.
    """
    pose, damping = start, 1e-6
    foot, normal = nearest(surface.moved(pose), points)
    cost = float(np.square(points - foot).sum())
    for _ in range(ROUNDS):
        step = _step(points, foot, normal, with_scale, damping)
        trial = step.after(pose)
        moved = nearest(surface.moved(trial), points)
        value = float(np.square(points - moved[0]).sum())
        if value > cost:
            damping *= 10
            if damping > 1e6:
                break
            continue
        gain = cost - value
        pose, (foot, normal), damping = trial, moved, max(damping / 10, 1e-9)
        cost = value
        if gain <= SETTLED * max(cost, 1e-12 * float(np.square(points - points.mean(0)).sum())):
            break
    return pose


def _step(
    points: Array, foot: Array, normal: Array, with_scale: bool, damping: float
) -> Similarity:
    apart = points - foot
    length = np.linalg.norm(apart, axis=1, keepdims=True)
    way = np.where(length > 1e-9 * np.abs(points).max(), apart / np.maximum(length, 1e-30), normal)
    centre = foot.mean(axis=0)
    arm = foot - centre
    reach = float(np.sqrt(np.square(arm).sum(axis=1).mean()))
    columns = [np.cross(arm, way) / reach, way]
    if with_scale:
        columns.append((arm * way).sum(axis=1, keepdims=True) / reach)
    jacobian = np.concatenate(columns, axis=1)
    matrix = jacobian.T @ jacobian
    matrix += damping * np.diag(np.maximum(np.diag(matrix), 1e-12 * np.trace(matrix)))
    x = np.linalg.solve(matrix, jacobian.T @ (apart * way).sum(axis=1))
    from scipy.spatial.transform import Rotation

    turn = Rotation.from_rotvec(x[:3] / reach).as_matrix()
    scale = float(np.exp(x[6] / reach)) if with_scale else 1.0
    return Similarity(scale, turn, centre + x[3:6] - scale * turn @ centre)


@dataclass(frozen=True)
class Distances:
    """Pooled distances of one or more scans, mm."""

    values: Array
    """(N,)."""

    def table(self) -> dict[str, float]:
        """Median, mean and standard deviation, mm."""
        return {
            "median": float(np.median(self.values)),
            "mean": float(np.mean(self.values)),
            "std": float(np.std(self.values)),
        }
