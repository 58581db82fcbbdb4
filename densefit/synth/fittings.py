"""Where hair, clothes and glasses attach to the head model: found once on the template."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from densefit.head.model import HeadModel
from densefit.synth.clothes import COLUMNS
from densefit.synth.surface_marks import MARK

Array = np.ndarray[Any, np.dtype[Any]]

ROOTS = 8000
"""Places where hair may be rooted; each strip picks one of them at random."""
NECK_AXIS_Z = -0.105
"""The neck's axis passes here, metres behind the eyes."""
SHELL_MARGIN = 0.035
"""The solid layer of hair is a copy of the skin down to this far before the hairline."""


@dataclass(frozen=True)
class Anchors:
    """Points on the surface: vertices (N, 3) int64, weights (N, 3) float32."""

    vertices: Array
    weights: Array

    def at(self, values: Array) -> Array:
        """Interpolate values (V, ...) at the anchors."""
        return np.einsum("nc...,nc->n...", values[self.vertices], self.weights)


@dataclass(frozen=True)
class Fittings:
    """edge: (COLUMNS) the lower edge of the model; collar_low, collar_high: (COLUMNS) around the
    neck; scalp, beard: root tables; scalp_depth (ROOTS,) metres behind the hairline; beard_marks
    (ROOTS, A); shell_vertices (S,) head vertices, shell_triangles (G, 3) into them;
    temple (2,) vertices of the widest points over the ears; ear (2,) landmarks' vertices."""

    edge: Anchors
    collar_low: Anchors
    collar_high: Anchors
    scalp: Anchors
    scalp_depth: Array
    beard: Anchors
    beard_marks: Array
    shell_vertices: Array
    shell_triangles: Array
    temple: int
    ear: int


def find_fittings(head: HeadModel, marks: Array) -> Fittings:
    """Attach everything to the template of `head` with the attributes of `head_marks`."""
    skin = head.triangles[head.part_triangles("skin", "ears", "scalp", "neck")]
    bare = head.triangles[head.part_triangles("skin", "scalp", "neck")]
    rng = np.random.default_rng(703)
    hairline = marks[:, MARK["hairline"]]
    scalp = scatter(head.template, bare[(hairline[bare] > -0.006).all(1)], ROOTS, rng)
    chin = np.maximum(marks[:, MARK["beard"]], marks[:, MARK["moustache"]])
    beard = scatter(head.template, bare[(chin[bare] > -0.004).all(1)], ROOTS, rng)
    covered = bare[(hairline[bare] > -SHELL_MARGIN).all(1)]
    shell = np.unique(covered)
    index = np.full(len(head.template), -1)
    index[shell] = np.arange(len(shell))
    temple, ear = _temple(head, skin)
    return Fittings(
        edge=_edge(head),
        collar_low=_around(head, skin, -0.014),
        collar_high=_around(head, skin, 0.030),
        scalp=scalp,
        scalp_depth=scalp.at(hairline).astype(np.float32),
        beard=beard,
        beard_marks=beard.at(marks).astype(np.float32),
        shell_vertices=shell,
        shell_triangles=index[covered],
        temple=temple,
        ear=ear,
    )


def below_neckline(points: Array) -> Array:
    """Metres (N,) below the plane through the notch between the collar bones and the nape."""
    return -0.188 + (-0.035 - points[:, 2]) * 0.30 - points[:, 1]


def scatter(vertices: Array, triangles: Array, count: int, rng: np.random.Generator) -> Anchors:
    """Uniform random points on triangles."""
    corner = vertices[triangles]
    area = np.linalg.norm(
        np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0]), axis=1
    )
    chosen = rng.choice(len(triangles), count, p=area / area.sum())
    u, v = np.sqrt(rng.random(count)), rng.random(count)
    weights = np.stack([1 - u, u * (1 - v), u * v], 1).astype(np.float32)
    return Anchors(triangles[chosen].astype(np.int64), weights)


def _edge(head: HeadModel) -> Anchors:
    """Points of the model's lower edge at even angles around the neck."""
    skin = head.triangles[head.part_triangles("skin", "ears", "scalp", "neck", "mouth")]
    pairs = np.concatenate([skin[:, [0, 1]], skin[:, [1, 2]], skin[:, [2, 0]]])
    pairs, count = np.unique(np.sort(pairs, axis=1), axis=0, return_counts=True)
    rim = pairs[(count == 1)]
    rim = rim[head.template[rim, 1].max(1) < -0.12]
    angle = np.arctan2(head.template[rim, 0], head.template[rim, 2] - NECK_AXIS_Z)
    wanted = np.arange(COLUMNS) / COLUMNS * 2 * math.pi
    vertices, weights = np.zeros((COLUMNS, 3), np.int64), np.zeros((COLUMNS, 3), np.float32)
    for j, goal in enumerate(wanted):
        a = (angle - goal + math.pi) % (2 * math.pi) - math.pi
        crossing = (a[:, 0] * a[:, 1] <= 0) & (np.abs(a).max(1) < 1)
        here = int(np.flatnonzero(crossing)[0])
        t = abs(a[here, 0]) / max(np.abs(a[here]).sum(), 1e-9)
        vertices[j] = [rim[here, 0], rim[here, 1], rim[here, 1]]
        weights[j] = [1 - t, t, 0]
    return Anchors(vertices, weights)


def _around(head: HeadModel, skin: Array, above: float) -> Anchors:
    """Points of the neck at even angles, in a plane `above` metres over the neckline.

    Over the shoulders the plane is raised until it meets the neck and no longer the shoulder.
    """
    corner = head.template[skin].astype(np.float64)
    vertices, weights = np.zeros((COLUMNS, 3), np.int64), np.zeros((COLUMNS, 3), np.float32)
    for j in range(COLUMNS):
        turn = 2 * math.pi * j / COLUMNS
        along = np.array([math.sin(turn), -0.30 * math.cos(turn), math.cos(turn)])
        for raised in np.arange(0, 0.06, 0.002):
            base = -0.188 + above + raised + (-0.035 - NECK_AXIS_Z) * 0.30
            hit, where, distance = _farthest_hit(corner, np.array([0, base, NECK_AXIS_Z]), along)
            if distance < 0.082:
                break
        vertices[j], weights[j] = skin[hit], where
    return Anchors(vertices, weights)


def _farthest_hit(corner: Array, origin: Array, direction: Array) -> tuple[int, Array, float]:
    """Moeller and Trumbore's test of one ray against triangles (F, 3, 3); the last hit:
    triangle, barycentric weights, distance (infinite where there is none)."""
    e1, e2 = corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0]
    p = np.cross(direction, e2)
    scale = 1 / np.where(np.abs(d := (e1 * p).sum(1)) < 1e-15, np.inf, d)
    offset = origin - corner[:, 0]
    u = (offset * p).sum(1) * scale
    q = np.cross(offset, e1)
    v = (q @ direction) * scale
    t = (e2 * q).sum(1) * scale
    hits = (u >= 0) & (v >= 0) & (u + v <= 1) & (t > 0) & (t < 0.16)
    best = int(np.argmax(np.where(hits, t, -1)))
    where = np.array([1 - u[best] - v[best], u[best], v[best]], np.float32)
    return best, where, float(t[best]) if hits[best] else math.inf


def _temple(head: HeadModel, skin: Array) -> tuple[int, int]:
    """Vertices of the left side: the widest point in front of the ear, the root of the ear."""
    ears = np.unique(head.triangles[head.part_triangles("ears")])
    p = head.template
    face = np.setdiff1d(np.unique(skin), ears)
    level = face[(np.abs(p[face, 1] + 0.002) < 0.012) & (p[face, 2] < -0.04)]
    temple = int(level[np.argmax(p[level, 0])])
    top = ears[(p[ears, 0] > 0) & (p[ears, 1] > -0.03)]
    ear = int(top[np.argmax(p[top, 2] - 0.3 * p[top, 0])])
    return temple, ear
