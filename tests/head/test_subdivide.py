"""Catmull-Clark: closed-form cases, linearity, borders, texture seams and the shipped head."""

from __future__ import annotations

import numpy as np
import pytest

from densefit.head import HeadModel, load_head
from densefit.head.subdivide import join_quads, subdivide

CUBE = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], float)
CUBE_QUADS = np.array(
    [[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]]
)


def split(quads: np.ndarray) -> np.ndarray:
    return np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])


def test_cube_has_the_published_points() -> None:
    triangles = split(CUBE_QUADS)
    out = subdivide(triangles, triangles, 8, 8)
    points = out.apply(CUBE)
    assert len(points) == 8 + 12 + 6 and len(out.triangles) == 2 * 24
    # P = 1, F = 1/3, E = 2/3 along each axis, n = 3: (F + 2 E) / 3 = 5/9.
    np.testing.assert_allclose(np.abs(points[:8]), 5 / 9)
    np.testing.assert_allclose(np.sort(np.abs(points[8:20]), 1), [[0, 0.75, 0.75]] * 12)
    np.testing.assert_allclose(np.sort(np.abs(points[20:]), 1), [[0, 0, 1]] * 6)
    np.testing.assert_allclose(np.asarray(out.matrix.sum(1)), 1)
    corner = points[out.triangles]
    normal = np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])
    assert ((normal * corner.mean(1)).sum(1) > 0).all()  # still wound outwards


def test_split_quads_are_found_again_either_way_round() -> None:
    for triangles in (split(CUBE_QUADS), split(CUBE_QUADS)[:, ::-1]):
        faces, _, source = join_quads(triangles, triangles)
        assert len(faces) == 6 and (faces >= 0).all()
        assert {frozenset(f) for f in faces.tolist()} == {frozenset(q) for q in CUBE_QUADS.tolist()}
        assert len(np.unique(source)) == 6


def test_border_is_a_cubic_spline_and_a_plane_stays_a_plane() -> None:
    grid = np.array([[x, y, 0.0] for y in range(4) for x in range(4)])
    quads = np.array([[a, a + 1, a + 5, a + 4] for y in range(3) for a in range(4 * y, 4 * y + 3)])
    out = subdivide(split(quads), split(quads), 16, 16)
    points = out.apply(grid)
    np.testing.assert_allclose(points[5], grid[5], atol=1e-12)  # regular inner vertex
    np.testing.assert_allclose(points[1], grid[1], atol=1e-12)  # 1/8, 3/4, 1/8 on a straight edge
    np.testing.assert_allclose(points[0], [0.125, 0.125, 0], atol=1e-12)
    assert np.abs(points[:, 2]).max() == 0
    np.testing.assert_allclose(out.apply_uv(grid[:, :2])[:16], grid[:, :2])  # linear in texture


def test_texture_seams_stay_and_triangles_are_allowed() -> None:
    triangles = np.array([[0, 1, 2], [0, 2, 3], [3, 2, 4]])
    uv_triangles = np.array([[0, 1, 2], [0, 2, 3], [5, 6, 4]])  # the third is an island of its own
    out = subdivide(triangles, uv_triangles, 5, 7)
    assert len(out.triangles) == len(out.uv_triangles) == 2 * (4 + 3)
    assert (out.source[:7] == [0, 0, 0, 0, 2, 2, 2]).all()
    island = out.uv_triangles[out.source == 2]
    assert not set(island.ravel()) & set(out.uv_triangles[out.source == 0].ravel())
    with pytest.raises(ValueError, match="levels"):
        subdivide(triangles, uv_triangles, 5, 7, 0)


@pytest.fixture(scope="module")
def head() -> HeadModel:
    return load_head()


def test_refined_animation_is_the_animation_of_the_refined_head(head: HeadModel) -> None:
    out = subdivide(head.triangles, head.uv_triangles, len(head.template), len(head.uv))
    faces = len(join_quads(head.triangles, head.uv_triangles)[0])
    assert faces < 0.52 * len(head.triangles)  # the sculptor's quads are back
    assert len(out.triangles) == pytest.approx(4 * len(head.triangles), rel=0.04)
    shape = out.apply(head.template)
    smile, open_ = head.expression_basis[23], head.expression_basis[17]
    together = out.apply(head.template + 0.5 * smile + open_)
    np.testing.assert_allclose(
        together, shape + 0.5 * out.apply(smile) + out.apply(open_), atol=1e-6
    )
    np.testing.assert_allclose(out.apply(head.skinning).sum(1), 1, atol=1e-5)
    used = np.unique(head.triangles)
    moved = np.linalg.norm(shape[used] - head.template[used], axis=1)
    assert np.median(moved) < 5e-4 and moved.max() < 6e-3


def test_both_eyes_are_refined_alike(head: HeadModel) -> None:
    """Their irises and pupils stay round: no quad reaches across parts or over a fan's spokes."""
    out = subdivide(
        head.triangles, head.uv_triangles, len(head.template), len(head.uv), 1, head.triangle_part
    )
    points, part = out.apply(head.template.astype(np.float64)), head.triangle_part[out.source]
    for name in ("eyes", "iris", "pupil"):
        triangles = out.triangles[part == head.part_names.index(name)]
        vertices = points[np.unique(triangles)]
        left, right = vertices[vertices[:, 0] > 0], vertices[vertices[:, 0] < 0]
        assert len(left) == len(right) > 90
        distance = np.linalg.norm(left[:, None] * [-1, 1, 1] - right, axis=2)
        assert distance.min(axis=1).max() < 2e-5
    edges = np.sort(triangles[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), axis=1)
    edges, count = np.unique(edges, axis=0, return_counts=True)
    rim = points[np.unique(edges[count == 1])]
    rim = rim[rim[:, 0] > 0]
    radius = np.linalg.norm((rim - rim.mean(axis=0))[:, :2], axis=1)
    assert np.ptp(radius) < 0.04 * radius.mean()
