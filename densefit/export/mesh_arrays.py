"""Mesh arrays that renderers want: normals, and vertices split along UV seams."""

from __future__ import annotations

import numpy as np


def vertex_normals(vertices: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Area-weighted unit normals.

    Args:
        vertices: (V, 3), any unit.  triangles: (F, 3), counter-clockwise seen from outside.
    Returns:
        (V, 3) float64; +z where a vertex has no area around it.
    """
    corners = vertices[triangles].astype(np.float64)
    face = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    flat = triangles.reshape(-1)
    spread = np.repeat(face, 3, axis=0)
    normals = np.stack([np.bincount(flat, spread[:, i], len(vertices)) for i in range(3)], axis=1)
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    up = np.array([0.0, 0.0, 1.0])
    return np.where(length > 1e-20, normals / np.maximum(length, 1e-20), up)


def split_at_seams(
    triangles: np.ndarray, uv_triangles: np.ndarray, n_vertices: int
) -> tuple[np.ndarray, ...]:
    """Vertices with one texture coordinate each.

    The first `n_vertices` keep the model's order; the copies that seams need follow, so that
    vertex i of the
    file is vertex i of the model.

    Args:
        triangles, uv_triangles: (F, 3) indices of positions and of texture coordinates.
    Returns:
        source (N,): the model's vertex of each split vertex; uv_index (N,): its texture
        coordinate, -1 if none;
        split_triangles (F, 3).
    """
    pairs = np.stack([triangles.reshape(-1), uv_triangles.reshape(-1)], axis=1)
    unique, inverse = np.unique(pairs, axis=0, return_inverse=True)
    vertex = unique[:, 0]
    is_first = np.ones(len(unique), bool)
    is_first[1:] = vertex[1:] != vertex[:-1]
    position = np.where(is_first, vertex, n_vertices - 1 + np.cumsum(~is_first))
    n_split = n_vertices + int((~is_first).sum())
    source = np.arange(n_split)
    uv_index = np.full(n_split, -1)
    source[position] = vertex
    uv_index[position] = unique[:, 1]
    return source, uv_index, position[inverse.reshape(-1)].reshape(triangles.shape)
