"""The rasteriser against Open3D's ray caster and against closed-form answers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from densefit.synth import raster
from densefit.synth.strips import splat_strips


def bumpy_sphere(rows: int = 60, columns: int = 90) -> tuple[np.ndarray, np.ndarray]:
    """A closed surface with folds, so that it hides itself; triangles counter-clockwise outside."""
    theta = np.linspace(0.02, np.pi - 0.02, rows)[:, None]
    phi = np.linspace(0, 2 * np.pi, columns, endpoint=False)[None]
    radius = 0.1 * (1 + 0.25 * np.sin(5 * phi) * np.sin(theta) * np.cos(4 * theta))
    x, y, z = (
        radius * np.sin(theta) * np.sin(phi),
        radius * np.cos(theta) + 0 * phi,
        radius * np.sin(theta) * np.cos(phi),
    )
    vertices = np.stack([x, y, z], -1).reshape(-1, 3)
    i, j = np.meshgrid(np.arange(rows - 1), np.arange(columns), indexing="ij")
    a, b = i * columns + j, i * columns + (j + 1) % columns
    c, d = a + columns, b + columns
    triangles = np.concatenate([np.stack(t, -1).reshape(-1, 3) for t in ((a, c, b), (b, c, d))])
    return vertices.astype(np.float32), triangles.astype(np.int64)


def project(vertices: np.ndarray, focal: float, center: float, distance: float) -> torch.Tensor:
    """A camera on +z that looks along -z with x to the right and y down."""
    depth = distance - vertices[:, 2]
    x = focal * vertices[:, 0] / depth + center
    y = -focal * vertices[:, 1] / depth + center
    return torch.tensor(np.stack([x, y, 1 / depth], -1)[None], dtype=torch.float32)


def test_same_triangles_as_open3d() -> None:
    o3d = pytest.importorskip("open3d")
    vertices, triangles = bumpy_sphere()
    size, focal, distance = 256, 900.0, 1.0
    pixels = project(vertices, focal, size / 2, distance)
    ids, inverse_depth = raster.rasterize(pixels, torch.tensor(triangles), size, size, cull="none")

    scene = o3d.t.geometry.RaycastingScene()
    scene.add_triangles(o3d.core.Tensor(vertices), o3d.core.Tensor(triangles.astype(np.uint32)))
    y, x = np.mgrid[0:size, 0:size].astype(np.float32)
    direction = np.stack([(x - size / 2) / focal, -(y - size / 2) / focal, -np.ones_like(x)], -1)
    origin = np.broadcast_to(np.array([0, 0, distance], np.float32), direction.shape)
    hits = scene.cast_rays(o3d.core.Tensor(np.concatenate([origin, direction], -1)))
    expected = hits["primitive_ids"].numpy().astype(np.int64)
    expected[~np.isfinite(hits["t_hit"].numpy())] = -1

    mine = ids[0].numpy()
    covered = (expected >= 0) | (mine >= 0)
    assert covered.mean() > 0.2
    assert (mine == expected)[covered].mean() >= 0.99
    same = (mine == expected) & covered
    np.testing.assert_allclose(
        1 / inverse_depth[0].numpy()[same], hits["t_hit"].numpy()[same], rtol=1e-5
    )


def test_pixel_centres_are_integers_and_culling_knows_the_front() -> None:
    # Counter-clockwise as seen in the picture (y down): covers exactly the centres (2..4, 3..5).
    corners = torch.tensor([[[1.5, 2.5, 1.0], [1.5, 8.5, 1.0], [7.5, 2.5, 1.0]]])
    triangle = torch.tensor([[0, 1, 2]])
    ids, _ = raster.rasterize(corners, triangle, 12, 12, cull="back")
    filled = {(int(x), int(y)) for y, x in (ids[0] == 0).nonzero()}
    expected = {(x, y) for x in range(12) for y in range(12) if x >= 2 and y >= 3 and x + y <= 10}
    assert filled == expected
    assert (raster.rasterize(corners, triangle, 12, 12, cull="front")[0] == -1).all()
    with pytest.raises(ValueError, match="cull"):
        raster.rasterize(corners, triangle, 12, 12, cull="sideways")


def test_interpolation_is_perspective_correct() -> None:
    # A strongly slanted triangle: a colour that is linear in space must come out exactly.
    points = torch.tensor([[-0.4, -0.4, 1.0], [-0.4, 0.5, 1.2], [0.9, -0.5, 3.0]])
    pixels = torch.cat([points[:, :2] / points[:, 2:] * 60 + 32, 1 / points[:, 2:]], 1)[None]
    triangle = torch.tensor([[0, 1, 2]])
    ids, inverse_depth = raster.rasterize(pixels, triangle, 64, 64, cull="none")
    covered = raster.fragments(pixels, triangle, ids)
    position = raster.interpolate(points[None], covered)
    y, x = (ids[0] == 0).nonzero().unbind(-1)
    torch.testing.assert_close(position[:, 0] / position[:, 2] * 60 + 32, x.float())
    torch.testing.assert_close(position[:, 1] / position[:, 2] * 60 + 32, y.float())
    torch.testing.assert_close(1 / position[:, 2], inverse_depth[0, y, x])


def test_large_triangles_and_points_behind_the_camera() -> None:
    corners = torch.tensor(
        [[[-900.0, -900.0, 0.5], [-900.0, 2000.0, 0.5], [2000.0, -900.0, 0.5], [5.0, 5.0, -1.0]]]
    )
    triangles = torch.tensor([[0, 1, 2], [0, 1, 3]])
    ids, inverse_depth = raster.rasterize(corners, triangles, 300, 400, cull="none")
    assert (ids == 0).all()
    torch.testing.assert_close(inverse_depth, torch.full((1, 300, 400), 0.5))


def test_strips_leave_hardly_a_hole_and_respect_depth() -> None:
    # A solid slanted strip of three quads in front of, and then behind, a large triangle.
    line = torch.tensor([[4.0, 4.0], [12.0, 9.0], [20.0, 18.0], [24.0, 27.0]])
    side = torch.tensor([2.5, -2.5])
    strip = torch.stack([line - side, line + side], 1).reshape(-1, 2)
    quads = torch.tensor([[0, 1, 2, 3], [2, 3, 4, 5], [4, 5, 6, 7]])
    triangles = torch.tensor([[0, 1, 2], [1, 3, 2], [2, 3, 4], [3, 5, 4], [4, 5, 6], [5, 7, 6]])
    strand = torch.tensor([[0.3, 0, 0.3], [0.3, 0.3, 0.6], [0.3, 0.6, 1.0]])
    for depth, shown in ((2.0, True), (0.5, False)):
        points = torch.cat([strip, torch.full((8, 1), depth)], 1)[None]
        expected, _ = raster.rasterize(points, triangles, 32, 32, cull="none")
        wall = torch.tensor([[[-50.0, -50.0, 1.0], [-50.0, 190.0, 1.0], [190.0, -50.0, 1.0]]])
        keys = raster.depth_keys(wall, torch.tensor([[0, 1, 2]]), 32, 32)
        splat_strips(keys, points, quads, 1, strand, torch.zeros(3))
        ids, _ = raster.decode_keys(keys)
        drawn = ids > 0
        covered = drawn[expected >= 0].float().mean()
        assert (covered > 0.97) if shown else not bool(drawn.any())
        # Rounding samples to pixels may widen the strip by half a pixel on each side.
        assert drawn.sum() <= 1.35 * (expected >= 0).sum()
