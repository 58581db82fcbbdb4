"""Catmull-Clark subdivision as one sparse matrix, for meshes and everything that lives on them.

Catmull and Clark, "Recursively generated B-spline surfaces on arbitrary topological meshes"
(Computer-Aided Design 1978): face points are means, edge points (v1 + v2 + f1 + f2) / 4, vertex
points (F + 2 E + (n - 3) P) / n with the means F and E of the surrounding face points and edge
middles; borders are cubic B-splines. The weights depend on the connections alone, so positions,
morph targets, normals' deltas and skinning weights are refined by the same matrix, and a refined
animation is the animation of the refined mesh.

Texture coordinates are refined linearly on their own connections, which keeps every seam.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
import scipy.sparse.csgraph  # noqa: F401  (sp.csgraph)

Array = np.ndarray[Any, np.dtype[Any]]
FAN = 10
"""Triangles at one vertex; more are a fan."""


@dataclass(frozen=True)
class Refinement:
    """A refined mesh, as a linear map from the coarse one."""

    matrix: sp.csr_matrix
    """(V', V): rows sum to one."""
    triangles: Array
    """(F', 3) int32."""
    uv_matrix: sp.csr_matrix
    """(U', U)."""
    uv_triangles: Array
    """(F', 3) int32."""
    source: Array
    """(F',): the coarse triangle each triangle came from (one of its quad's two)."""

    def apply(self, field: Array) -> Array:
        """Refine per-vertex values (..., V, C): positions, morph targets, skinning weights."""
        field = np.asarray(field)
        flat = np.moveaxis(field, -2, 0).reshape(field.shape[-2], -1)
        out = (self.matrix @ flat).astype(field.dtype)
        shape = (out.shape[0], *field.shape[:-2], field.shape[-1])
        return np.moveaxis(out.reshape(shape), 0, -2)

    def apply_uv(self, uv: Array) -> Array:
        """Refine texture coordinates (U, 2)."""
        return np.asarray(self.uv_matrix @ uv, uv.dtype)


def subdivide(
    triangles: Array,
    uv_triangles: Array,
    vertices: int,
    uvs: int,
    levels: int = 1,
    part: Array | None = None,
) -> Refinement:
    """Refine a mesh `levels` times. Triangle pairs that were split quads are joined again.

    Args:
        triangles: (F, 3) vertex indices.
        uv_triangles: (F, 3) indices of texture coordinates.
        vertices: number of vertices.
        uvs: number of texture coordinates.
        levels: 1 or more; every level has four times the faces.
        part: (F,) labels: triangles of two parts are no quad.
    """
    if levels < 1:
        raise ValueError(f"levels is {levels}; one or more are possible")
    corners, uv_corners, source = join_quads(triangles, uv_triangles, part)
    matrix, uv_matrix = sp.identity(vertices, format="csr"), sp.identity(uvs, format="csr")
    for _ in range(levels):
        step, faces = _refine(corners, matrix.shape[0], smooth=True)
        uv_step, uv_faces = _refine(uv_corners, uv_matrix.shape[0], smooth=False)
        matrix, uv_matrix = (step @ matrix).tocsr(), (uv_step @ uv_matrix).tocsr()
        source = np.repeat(source, (corners >= 0).sum(1))
        corners, uv_corners = faces, uv_faces
    return Refinement(
        matrix, _split(corners), uv_matrix, _split(uv_corners), np.concatenate([source, source])
    )


def join_quads(
    triangles: Array, uv_triangles: Array, part: Array | None = None
) -> tuple[Array, Array, Array]:
    """Polygons from triangles: two that were one quad, split at its first corner, are joined.

    Triangles of two parts are none, nor are those of a fan, as at the poles of a sphere.

    Returns:
        (P, 4) vertex corners and (P, 4) texture corners, -1 in the fourth place of a triangle,
        and (P,) the first triangle of each polygon.
    """
    triangles, uv_triangles = np.asarray(triangles, np.int64), np.asarray(uv_triangles, np.int64)
    piece = _pieces(triangles)
    label = np.zeros(len(triangles), np.int64) if part is None else np.asarray(part, np.int64)
    hub = np.bincount(triangles.reshape(-1)) > FAN
    # (0 1 2)(0 2 3), and the same turned inside out: (2 1 0)(3 2 0). A piece is one or the other.
    patterns = (
        ((0, 2), (0, 1), ((0, 0), (0, 1), (0, 2), (1, 2))),
        ((2, 0), (2, 1), ((0, 0), (0, 1), (0, 2), (1, 0))),
    )
    found = [
        _matching(triangles, uv_triangles, (first, second), label, hub)
        for first, second, _ in patterns
    ]
    counts = [np.bincount(piece[a], minlength=piece.max() + 1) for a, _ in found]
    taken = np.zeros(len(triangles), bool)
    rows: list[tuple[Array, Array, Array]] = []
    for k, (a, b) in enumerate(found):
        chosen = (counts[0] >= counts[1]) == (k == 0)
        a, b = a[chosen[piece[a]]], b[chosen[piece[a]]]
        taken[a] = taken[b] = True
        joined = [
            np.stack([mesh[(a, b)[t], c] for t, c in patterns[k][2]], 1)
            for mesh in (triangles, uv_triangles)
        ]
        rows.append((joined[0], joined[1], a))
    alone = np.flatnonzero(~taken)
    pad = np.full((len(alone), 1), -1)
    rows.append((np.hstack([triangles[alone], pad]), np.hstack([uv_triangles[alone], pad]), alone))
    faces, uv_faces, source = (np.concatenate(part) for part in zip(*rows, strict=True))
    order = np.argsort(source, kind="stable")
    return faces[order], uv_faces[order], source[order]


def _pieces(triangles: Array) -> Array:
    """(F,): which connected piece each triangle belongs to."""
    count = int(triangles.max()) + 1
    ends = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]]])
    graph = sp.coo_matrix((np.ones(len(ends)), (ends[:, 0], ends[:, 1])), shape=(count, count))
    label = sp.csgraph.connected_components(graph, directed=False)[1]
    return label[triangles[:, 0]]


def _matching(
    triangles: Array,
    uv_triangles: Array,
    edges: tuple[tuple[int, int], tuple[int, int]],
    label: Array,
    hub: Array,
) -> tuple[Array, Array]:
    """Pairs (a, b) of one label whose edge `edges[0]` of a is edge `edges[1]` of b, on the mesh and
    in texture, and does not end at a hub."""

    def keys(edge: tuple[int, int]) -> list[tuple[int, ...]]:
        both = np.hstack([triangles[:, edge], uv_triangles[:, edge], label[:, None]])
        return [tuple(row) for row in both.tolist()]

    partner = {key: i for i, key in enumerate(keys(edges[1]))}
    used: set[int] = set()
    a, b = [], []
    for i, key in enumerate(keys(edges[0])):
        j = partner.get(key)
        if j is None or i == j or i in used or j in used or hub[key[0]] or hub[key[1]]:
            continue
        used |= {i, j}
        a.append(i)
        b.append(j)
    return np.array(a, np.int64), np.array(b, np.int64)


def _refine(corners: Array, count: int, smooth: bool) -> tuple[sp.csr_matrix, Array]:
    """One level: the (count', count) matrix and the quads (P', 4). New points are the old
    vertices, then one on each edge, then one in each face."""
    real = corners >= 0
    size = real.sum(1)
    face_of = np.repeat(np.arange(len(corners)), size)
    vertex = corners[real]
    following = np.where(
        np.arange(4) + 1 < size[:, None], np.roll(corners, -1, 1), corners[:, :1]
    )[real]  # fmt: skip
    pairs = np.sort(np.column_stack([vertex, following]), axis=1)
    edges, edge_of = np.unique(pairs, axis=0, return_inverse=True)
    edge_of = edge_of.ravel()
    ones = np.ones(len(vertex))
    in_face = sp.csr_matrix((ones, (face_of, vertex)), shape=(len(corners), count))
    face_point = sp.diags(1 / size) @ in_face
    ends = np.repeat(np.arange(len(edges)), 2)
    middle = sp.csr_matrix((np.full(2 * len(edges), 0.5), (ends, edges.ravel())),
                           shape=(len(edges), count))  # fmt: skip
    edge_point, vertex_point = middle, sp.identity(count, format="csr")
    if smooth:
        borders = sp.csr_matrix((ones, (edge_of, face_of)), shape=(len(edges), len(corners)))
        inner = np.asarray(borders.sum(1)).ravel() == 2
        edge_point = sp.diags(np.where(inner, 0.5, 1.0)) @ middle + sp.diags(0.25 * inner) @ (
            borders @ face_point
        )
        vertex_point = _vertex_points(in_face, face_point, middle, edges, inner)
    start = count + edge_of
    before = np.empty_like(edge_of)
    first = np.concatenate([[0], np.cumsum(size)[:-1]])
    place = np.arange(len(vertex)) - first[face_of]
    before[:] = edge_of[first[face_of] + (place - 1) % size[face_of]]
    quads = np.column_stack([vertex, start, count + len(edges) + face_of, count + before])
    return sp.vstack([vertex_point, edge_point, face_point]).tocsr(), quads


def _vertex_points(
    in_face: sp.csr_matrix, face_point: sp.csr_matrix, middle: sp.csr_matrix, edges: Array,
    inner: Array,
) -> sp.csr_matrix:  # fmt: skip
    """Rows (count, count) of the moved old vertices."""
    count = in_face.shape[1]
    at = sp.csr_matrix(
        (np.ones(2 * len(edges)), (edges.ravel(), np.repeat(np.arange(len(edges)), 2))),
        shape=(count, len(edges)),
    )
    border = at @ sp.diags((~inner).astype(float))
    on_border = np.asarray(border.sum(1)).ravel()
    faces = np.maximum(np.asarray(in_face.sum(0)).ravel(), 1)
    degree = np.maximum(np.asarray(at.sum(1)).ravel(), 1)
    smooth = (on_border == 0) & (np.asarray(in_face.sum(0)).ravel() > 0)
    curve = on_border == 2
    # Where several borders meet, and for vertices without faces, the vertex stays.
    stay = np.where(smooth, (faces - 3) / faces, np.where(curve, 0.5, 1.0))
    return (
        sp.diags(stay)
        + sp.diags(smooth / faces**2) @ in_face.T @ face_point
        + sp.diags(smooth * 2 / faces / degree) @ at @ middle
        + sp.diags(0.25 * curve) @ border @ middle
    ).tocsr()


def _split(quads: Array) -> Array:
    """Quads (P, 4) as triangles (2P, 3)."""
    both = np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])
    return both.astype(np.int32)
