"""The step that brings the registered head onto the population's mean, modes and skull."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import open3d as o3d
import pytest
from scipy.spatial import cKDTree

from densefit.head.build import average
from densefit.head.build.assemble import PART_NAMES

RADIUS = 0.06


def ball(resolution: int, radius: float) -> tuple[np.ndarray, np.ndarray]:
    mesh = o3d.geometry.TriangleMesh.create_sphere(radius, resolution)
    return np.asarray(mesh.vertices), np.asarray(mesh.triangles).astype(np.int64)


@pytest.fixture(scope="module")
def coarse() -> Any:
    """A coarse ball a little too small, in place of an assembled head."""
    vertices, triangles = ball(8, RADIUS - 1e-3)
    _, mirror = cKDTree(vertices).query(vertices * [-1, 1, 1])
    labels = np.full(len(triangles), PART_NAMES.index("skin"))
    return SimpleNamespace(
        vertices=vertices, triangles=triangles, labels=labels, mirror=mirror,
        blocks={"skin": slice(0, len(vertices))},
    )  # fmt: skip


@pytest.fixture(scope="module")
def fine() -> average.Samples:
    """Points of the true ball: every one is a vertex of its own."""
    points = np.random.default_rng(0).normal(size=(4000, 3))
    points *= RADIUS / np.linalg.norm(points, axis=1, keepdims=True)
    own = np.repeat(np.arange(4000)[:, None], 3, 1)
    weights = np.tile([1.0, 0, 0], (4000, 1))
    return average.Samples(own, weights, points, points / RADIUS, np.ones(4000))


def test_the_shape_comes_onto_the_mean_except_where_it_is_held(
    coarse: Any, fine: average.Samples
) -> None:
    hold = np.where(coarse.vertices[:, 1] > 0.04, average.FIXED, 0.0)
    patches = [average.face_patch(coarse, fine)]
    moved = average.onto_mean(coarse, patches, hold)
    at, _ = average.partners(patches, moved, len(moved))
    gap = ((fine.points - at @ moved) * fine.normals).sum(1)
    free = fine.points[:, 1] < 0.02
    before, _ = average.partners(patches, coarse.vertices, len(moved))
    start = ((fine.points - before @ coarse.vertices) * fine.normals).sum(1)
    assert np.abs(start[free]).mean() > 1.5e-3  # too small, and flat between its corners
    # Now the corners stand out as far as the flat middles lie in.
    assert np.abs(gap[free]).mean() < 0.35e-3 and abs(gap[free].mean()) < 0.1e-3
    assert np.abs(moved - coarse.vertices)[hold > 0].max() < 2e-4
    np.testing.assert_allclose(moved[coarse.mirror] * [-1, 1, 1], moved, atol=1e-9)


def test_modes_are_projected_not_read_off(coarse: Any, fine: average.Samples) -> None:
    x, y, _ = fine.points.T
    field = np.stack([0 * x, np.cos(60 * x), 0 * x], 1)[None].astype(np.float32)
    here = coarse.vertices[:, 0]
    carried = np.stack([0 * here, np.cos(60 * here), 0 * here], 1)[None].astype(np.float32)
    patches = [average.face_patch(coarse, fine)]
    got = average.project(coarse, patches, field, carried)
    at, weight = average.partners(patches, coarse.vertices, len(here))
    errors = [np.linalg.norm((field[0] - at @ f[0])[weight > 0], axis=1).std() for f in
              (carried, got)]  # fmt: skip
    means = [(field[0] - at @ f[0])[weight > 0, 1].mean() for f in (carried, got)]
    assert abs(means[1]) < 0.5 * abs(means[0]) and errors[1] < 1.2 * errors[0]


def test_the_skull_narrows_behind_the_face_only() -> None:
    tip = np.array([0, 0, 0.13])
    points = np.array([[0, 0, 0.13], [0.06, 0.0, 0.07], [0.08, 0.06, 0.0], [0.07, -0.09, 0.0]])
    share = average.skull(points, tip)
    assert share[0] == share[1] == share[3] == 0 and share[2] > 0.6
    head: Any = SimpleNamespace(vertices=points, blocks={"skin": slice(0, 4)})
    moved, modes = average.narrow_skull(head, np.ones((2, 4, 3), np.float32))
    np.testing.assert_array_equal(moved[[0, 1, 3]], points[[0, 1, 3]])
    assert moved[2, 0] == pytest.approx(0.08 * (1 - (1 - average.SKULL_BREADTH) * share[2]))
    assert (modes[:, 2] < 0.95).all() and (modes[:, [0, 1, 3]] == 1).all()
