"""Small mesh tools that the build steps share."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp

Array = np.ndarray[Any, np.dtype[Any]]


def split_quads(quads: Array) -> Array:
    """Quads (F, 4) to triangles (2F, 3)."""
    return np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])


def vertex_normals(vertices: Array, triangles: Array) -> Array:
    """Unit normals (V, 3), weighted by triangle area."""
    corners = vertices[triangles]
    face = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    out = np.zeros_like(vertices)
    for k in range(3):
        np.add.at(out, triangles[:, k], face)
    return out / (np.linalg.norm(out, axis=1, keepdims=True) + 1e-12)


def vertex_areas(vertices: Array, triangles: Array) -> Array:
    """A third of the area of the triangles around each vertex (V,), square metres."""
    corners = vertices[triangles]
    face = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    out = np.zeros(len(vertices))
    for k in range(3):
        np.add.at(out, triangles[:, k], np.linalg.norm(face, axis=1) / 6)
    return out


def edges(triangles: Array) -> Array:
    """Unique edges (E, 2), each with its lower index first."""
    pairs = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    return np.unique(np.sort(pairs, axis=1), axis=0)


def laplacian(triangles: Array, count: int) -> sp.csr_matrix:
    """Row-normalised umbrella Laplacian (count, count); isolated vertices get empty rows."""
    pairs = edges(triangles)
    ones = np.ones(len(pairs))
    w = sp.coo_matrix((ones, (pairs[:, 0], pairs[:, 1])), shape=(count, count)).tocsr()
    w = w + w.T
    degree = np.asarray(w.sum(1)).ravel()
    inverse = sp.diags(1 / np.maximum(degree, 1))
    return (sp.diags((degree > 0).astype(float)) - inverse @ w).tocsr()


def largest_component(triangles: Array, count: int) -> Array:
    """The triangles of the largest connected piece."""
    pairs = edges(triangles)
    graph = sp.coo_matrix((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    _, label = sp.csgraph.connected_components(graph, directed=False)
    return triangles[label[triangles[:, 0]] == np.bincount(label[triangles[:, 0]]).argmax()]


def _tensor(array: Array, dtype: Any) -> Any:
    """An Open3D tensor of a numpy array (Open3D's stubs know only scalars and lists)."""
    import open3d as o3d

    return o3d.core.Tensor.from_numpy(np.ascontiguousarray(array, dtype))


def raycaster(vertices: Array, triangles: Array) -> Any:
    """An Open3D ray casting scene of one mesh."""
    import open3d as o3d

    scene = o3d.t.geometry.RaycastingScene(nthreads=1)
    scene.add_triangles(
        _tensor(vertices, np.float32),
        _tensor(triangles, np.uint32),
    )
    return scene


def cast(scene: Any, origins: Array, directions: Array) -> dict[str, Array]:
    """Cast rays (..., 3); returns t_hit, primitive_ids and primitive_uvs as numpy arrays."""
    rays = np.concatenate([origins, np.broadcast_to(directions, origins.shape)], -1)
    answer = scene.cast_rays(_tensor(rays, np.float32))
    return {k: answer[k].numpy() for k in ("t_hit", "primitive_ids", "primitive_uvs")}


def closest(scene: Any, points: Array) -> tuple[Array, Array, Array]:
    """Closest surface points: positions (N, 3), triangles (N,) and barycentrics (N, 3)."""
    query = _tensor(points, np.float32)
    answer = scene.compute_closest_points(query)
    uv = answer["primitive_uvs"].numpy().astype(np.float64)
    bary = np.column_stack([1 - uv.sum(1), uv])
    ids = answer["primitive_ids"].numpy().astype(np.int64)
    return answer["points"].numpy().astype(np.float64), ids, bary


def exposure(vertices: Array, triangles: Array, occluders: Array, rays: int = 64) -> Array:
    """Share (V,) of the outward hemisphere from which a vertex sees the sky."""
    scene = raycaster(vertices, occluders)
    normals = vertex_normals(vertices, triangles)
    directions = np.random.default_rng(0).normal(size=(len(vertices), rays, 3))
    directions /= np.linalg.norm(directions, axis=2, keepdims=True)
    directions *= np.sign((directions * normals[:, None]).sum(2, keepdims=True))
    origins = np.broadcast_to((vertices + 4e-4 * normals)[:, None], directions.shape)
    return (~np.isfinite(cast(scene, origins, directions)["t_hit"])).mean(1)


def similarity(source: Array, target: Array) -> tuple[float, Array, Array]:
    """Scale, rotation, translation that map source (N, 3) onto target (Umeyama 1991)."""
    ms, mt = source.mean(0), target.mean(0)
    u, s, vt = np.linalg.svd((target - mt).T @ (source - ms))
    d = np.diag([1.0, 1.0, np.sign(np.linalg.det(u @ vt))])
    rotation = u @ d @ vt
    scale = float(np.trace(np.diag(s) @ d) / ((source - ms) ** 2).sum())
    return scale, rotation, mt - scale * rotation @ ms
