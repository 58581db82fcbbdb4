"""Eyeballs, teeth and gums modelled from anatomy, since the base mesh has only placeholders."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

MM = 1e-3
EYE_RADIUS = 12.0 * MM
"""An adult eyeball is 24 mm across (Bekerman et al., J. Ophthalmology 2014: 23.7 to 24.2 mm)."""
IRIS_RADIUS = 5.9 * MM
"""Half the visible iris: 11.8 mm across (Ruefer et al., Am. J. Ophthalmology 2005: 11.7 mm)."""
PUPIL_RADIUS = 1.9 * MM
LONGITUDES = 24


@dataclass(frozen=True)
class Part:
    """A piece of mesh: vertices (V, 3) metres, triangles (F, 3), labels (F,), uv (V, 2)."""

    vertices: Array
    triangles: Array
    labels: tuple[str, ...]
    uv: Array


def eyeball(centre: Array) -> Part:
    """A sphere whose pole looks along +z, with rings at the rims of pupil and iris."""
    pupil, iris = np.arcsin(PUPIL_RADIUS / EYE_RADIUS), np.arcsin(IRIS_RADIUS / EYE_RADIUS)
    polar = np.concatenate([
        [pupil], np.linspace(pupil, iris, 4)[1:], np.linspace(iris, np.pi / 2, 6)[1:],
        np.linspace(np.pi / 2, np.pi, 6)[1:-1],
    ])  # fmt: skip
    turn = np.arange(LONGITUDES) * 2 * np.pi / LONGITUDES
    ring = np.stack([np.cos(turn), np.sin(turn)], -1)
    grid = np.concatenate([
        np.sin(polar)[:, None, None] * ring,
        np.broadcast_to(np.cos(polar)[:, None, None], (len(polar), LONGITUDES, 1)),
    ], -1).reshape(-1, 3)  # fmt: skip
    unit = np.concatenate([grid, [[0, 0, 1.0]], [[0, 0, -1.0]]])
    triangles, labels = _sphere_triangles(len(polar))
    disc = np.arccos(np.clip(unit[:, 2], -1, 1)) / np.pi / 2
    flat = unit[:, :2] / (np.linalg.norm(unit[:, :2], axis=1, keepdims=True) + 1e-9)
    return Part(centre + EYE_RADIUS * unit, triangles, labels, 0.5 + disc[:, None] * flat)


def _sphere_triangles(rings: int) -> tuple[Array, tuple[str, ...]]:
    n = LONGITUDES
    around, following = np.arange(n), (np.arange(n) + 1) % n
    front, back = rings * n, rings * n + 1
    triangles = [np.column_stack([np.full(n, front), around, following])]
    labels = ["pupil"] * n
    for r in range(rings - 1):
        a, b = r * n + around, r * n + following
        c, d = a + n, b + n
        triangles += [np.column_stack([a, c, d]), np.column_stack([a, d, b])]
        labels += ["iris" if r < 3 else "eyes"] * (2 * n)
    last = (rings - 1) * n
    triangles.append(np.column_stack([last + following, last + around, np.full(n, back)]))
    return np.concatenate(triangles), tuple(labels + ["eyes"] * n)


def iris_vertices() -> tuple[Array, int]:
    """Indices within an eyeball: 12 around the rim of the iris (from +x, towards +y), the pole."""
    rim = 3 * LONGITUDES + np.arange(0, LONGITUDES, LONGITUDES // 12)
    return rim, (LONGITUDES * 13)


def sclera_vertices() -> Array:
    """Eight vertices on the white of an eyeball, around the iris."""
    return 5 * LONGITUDES + np.arange(0, LONGITUDES, LONGITUDES // 8)


# Crowns of the left half, front to back, in the frame of the mean head (millimetres):
# centre x, centre z, half width along the arch, half depth, height.
UPPER_CROWNS = (
    (4.25, 104.3, 4.4, 3.0, 10.5), (11.1, 101.7, 3.4, 2.8, 9.3), (16.3, 97.0, 3.7, 3.4, 10.2),
    (19.6, 90.4, 3.5, 4.2, 8.8), (21.9, 83.6, 3.5, 4.4, 8.2), (23.8, 75.2, 5.0, 5.0, 7.6),
)  # fmt: skip
LOWER_CROWNS = (
    (2.8, 101.6, 2.9, 2.8, 8.8), (8.3, 100.2, 3.0, 2.8, 9.0), (13.3, 96.2, 3.4, 3.4, 10.0),
    (17.2, 90.2, 3.5, 3.8, 8.8), (20.0, 83.4, 3.6, 4.2, 8.0), (22.4, 74.6, 5.3, 5.0, 7.4),
)  # fmt: skip
UPPER_EDGE, LOWER_EDGE = -35.0, -34.2
"""Heights of the biting edges (mm); the upper front teeth cover the lower ones."""
_CROWN_RINGS, _CROWN_SIDES = 5, 10


def _crown(
    x: float, z: float, tangent: Array, size: tuple[float, float, float], edge: float, up: float
) -> Part:
    """A rounded box: a superellipse in cross-section, thinner towards the biting edge."""
    half_width, half_depth, height = size
    turn = np.arange(_CROWN_SIDES) * 2 * np.pi / _CROWN_SIDES + np.pi / 2
    c, s = np.cos(turn), np.sin(turn)
    outline = np.stack([np.sign(c) * np.abs(c) ** 0.6, np.sign(s) * np.abs(s) ** 0.6], -1)
    normal = np.array([tangent[1] * -1, tangent[0]])  # outward, towards the lips
    level = np.linspace(0, 1, _CROWN_RINGS)
    rings = []
    for t in level:
        wide = half_width * (0.97 + 0.04 * min(1, 5 * t)) * (1 - 0.16 * t**2)
        deep = half_depth * (0.45 + 0.55 * np.sqrt(t))
        lean = (1 - t) * half_depth * 0.35
        flat = outline[:, :1] * wide * tangent + (outline[:, 1:] * deep + lean) * normal
        rings.append(
            np.column_stack(
                [x + flat[:, 0], np.full(len(flat), edge + up * t * height), z + flat[:, 1]]
            )
        )
    points = np.concatenate(
        [*rings, rings[0].mean(0, keepdims=True), rings[-1].mean(0, keepdims=True)]
    )
    return Part(
        points * MM,
        _tube_triangles(up),
        ("teeth",) * (2 * _CROWN_SIDES * _CROWN_RINGS),
        np.zeros((len(points), 2)),
    )


def _tube_triangles(up: float) -> Array:
    n, out = _CROWN_SIDES, []
    around, following = np.arange(n), (np.arange(n) + 1) % n
    for r in range(_CROWN_RINGS - 1):
        a, b = r * n + around, r * n + following
        out += [np.column_stack([a, b, b + n]), np.column_stack([a, b + n, a + n])]
    bottom, top, last = _CROWN_RINGS * n, _CROWN_RINGS * n + 1, (_CROWN_RINGS - 1) * n
    out.append(np.column_stack([np.full(n, bottom), following, around]))
    out.append(np.column_stack([np.full(n, top), last + around, last + following]))
    triangles = np.concatenate(out)
    return triangles


def crown_marks() -> tuple[int, int]:
    """Within a crown: the vertex amid the biting edge and the one at the gum, both in front."""
    return 0, (_CROWN_RINGS - 1) * _CROWN_SIDES


def _outward(part: Part) -> Part:
    """Turn triangles so that a closed convex piece faces outwards."""
    corners = part.vertices[part.triangles]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    inward = (normal * (corners.mean(1) - part.vertices.mean(0))).sum(1) < 0
    triangles = np.where(inward[:, None], part.triangles[:, ::-1], part.triangles)
    return Part(part.vertices, triangles, part.labels, part.uv)


def teeth(upper: bool) -> list[Part]:
    """Twelve crowns: the left ones front to back, then their mirror images."""
    crowns = UPPER_CROWNS if upper else LOWER_CROWNS
    edge, up = (UPPER_EDGE, 1.0) if upper else (LOWER_EDGE, -1.0)
    centres = np.array([(c[0], c[1]) for c in crowns])
    chain = np.concatenate([centres[:1] * [-1, 1], centres])
    left = []
    for i, (x, z, half_width, half_depth, height) in enumerate(crowns):
        follower = centres[min(i + 1, len(centres) - 1)]
        tangent = follower - chain[i]
        tangent = tangent / np.linalg.norm(tangent)
        left.append(_outward(_crown(x, z, tangent, (half_width, half_depth, height), edge, up)))
    flip = np.array([-1.0, 1.0, 1.0])
    right = [Part(p.vertices * flip, p.triangles[:, ::-1], p.labels, p.uv) for p in left]
    return left + right


def gum(upper: bool) -> Part:
    """A bent tube in which the crowns of one jaw stand."""
    crowns = np.array(UPPER_CROWNS if upper else LOWER_CROWNS)
    edge, up = (UPPER_EDGE, 1.0) if upper else (LOWER_EDGE, -1.0)
    x = np.concatenate([-crowns[::-1, 0], crowns[:, 0]])
    z = np.concatenate([crowns[::-1, 1], crowns[:, 1]])
    height = np.concatenate([crowns[::-1, 4], crowns[:, 4]])
    depth = np.concatenate([crowns[::-1, 3], crowns[:, 3]])
    path = np.column_stack([x, edge + up * (height + 0.6), z])
    along = np.gradient(path, axis=0)
    along /= np.linalg.norm(along, axis=1, keepdims=True)
    outward = np.column_stack([-along[:, 2], np.zeros(len(along)), along[:, 0]])
    sides, rings = 8, []
    for p, o, d in zip(path, outward, depth, strict=True):
        turn = np.arange(sides) * 2 * np.pi / sides
        rings.append(
            p + np.cos(turn)[:, None] * o * (d - 0.2) + np.sin(turn)[:, None] * [0, 3.0, 0]
        )
    points = np.concatenate(rings)
    i, k = np.meshgrid(np.arange(len(path) - 1), np.arange(sides), indexing="ij")
    a, b = (i * sides + k).ravel(), (i * sides + (k + 1) % sides).ravel()
    triangles = np.concatenate(
        [np.column_stack([a, b, b + sides]), np.column_stack([a, b + sides, a + sides])]
    )
    corners = points[triangles]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    if (
        np.sum(
            normal
            * (
                corners.mean(1)
                - np.repeat(np.tile(path[:-1], (1, 1)), sides, 0)[np.tile(np.arange(len(a)), 2)]
            )
        )
        < 0
    ):
        triangles = triangles[:, ::-1]
    return Part(points * MM, triangles, ("gums",) * len(triangles), np.zeros((len(points), 2)))
