"""Tools to place landmarks: ordered curves on a surface, symmetric pairs, spread points."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.interpolate import CubicSpline

from densefit.head.build.anatomy import MM
from densefit.head.build.assemble import PART_NAMES, Assembly
from densefit.head.build.mesh import closest, raycaster

Array = np.ndarray[Any, np.dtype[Any]]
FLIP = np.array([-1.0, 1.0, 1.0])
"""Left and right exchanged."""


@dataclass
class Placement:
    """Landmarks in the making: corners and barycentric weights, region by region."""

    vertices: list[Array] = field(default_factory=list)
    weights: list[Array] = field(default_factory=list)
    regions: list[str] = field(default_factory=list)
    region_of: list[int] = field(default_factory=list)
    mirror: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.region_of)

    def start(self, region: str) -> slice:
        """Where a region lies."""
        chosen = [i for i, r in enumerate(self.region_of) if self.regions[r] == region]
        return slice(chosen[0], chosen[-1] + 1)

    def add(self, region: str, corners: Array, weights: Array) -> int:
        """Append a region; returns the index of its first landmark."""
        first = len(self)
        self.regions.append(region)
        self.vertices += list(corners)
        self.weights += list(weights)
        self.region_of += [len(self.regions) - 1] * len(corners)
        self.mirror += list(range(first, first + len(corners)))
        return first

    def add_pair(self, region: str, corners: Array, weights: Array, twin: Array) -> None:
        """Append a left region and its mirror image."""
        left = self.add(f"left_{region}", corners, weights)
        right = self.add(f"right_{region}", twin[corners], weights)
        for i in range(len(corners)):
            self.mirror[left + i], self.mirror[right + i] = right + i, left + i

    def add_centred(self, region: str, corners: Array, weights: Array, twin: Array) -> None:
        """Append a curve that crosses the midline symmetrically: left end first."""
        first, count = self.add(region, corners, weights), len(corners)
        for i in range(count // 2):
            self.vertices[first + count - 1 - i] = twin[corners[i]]
            self.weights[first + count - 1 - i] = weights[i]
            self.mirror[first + i], self.mirror[first + count - 1 - i] = (
                first + count - 1 - i,
                first + i,
            )


@dataclass(frozen=True)
class Landmarks:
    """The finished set, as stored in the asset."""

    vertices: Array
    weights: Array
    region: Array
    region_names: tuple[str, ...]
    face320: Array
    ibug68: Array
    mirror: Array

    def positions(self, template: Array) -> Array:
        """(703, 3) float32 on vertices (V, 3)."""
        points = np.einsum("kcd,kc->kd", template[self.vertices], self.weights)
        return points.astype(np.float32)

    def version(self, positions: Array) -> str:
        """sha256 over the definition and the positions (703, 3) on the head it was made for."""
        digest = hashlib.sha256()
        for array in (self.vertices.astype(np.int32), self.weights.astype(np.float32),
                      self.region.astype(np.uint8), self.face320.astype(np.int32),
                      self.ibug68.astype(np.int32), positions.astype(np.float32)):  # fmt: skip
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()


class Surface:
    """The outer skin, onto which curves are laid."""

    def __init__(self, head: Assembly) -> None:
        parts = [PART_NAMES.index(n) for n in ("skin", "ears", "scalp", "neck")]
        self.head = head
        self.triangles = head.triangles[np.isin(head.labels, parts)]
        self.scene = raycaster(head.vertices, self.triangles)

    def lay(self, points: Array) -> tuple[Array, Array]:
        """Closest surface points of (N, 3), as corners (N, 3) and weights (N, 3)."""
        _, triangle, bary = closest(self.scene, points)
        return self.triangles[triangle], bary

    def midline(self, points: Array) -> tuple[Array, Array]:
        """The same, for points that must stay on x = 0."""
        corners, weights = self.lay(points * [0, 1, 1])
        x = (self.head.vertices[corners, 0] * weights).sum(1)
        assert np.abs(x).max() < 0.3 * MM
        return corners, weights


def knots(points: Array, pieces: int) -> Array:
    """A spline through points (N, 3), `pieces` steps from each point to the next."""
    chord = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
    position = np.linspace(0, len(points) - 1, (len(points) - 1) * pieces + 1)
    return CubicSpline(chord, points)(np.interp(position, np.arange(len(points)), chord))


def curve(points: Array, count: int) -> Array:
    """`count` points at equal arc length along a spline through (N, 3) points."""
    chord = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
    spline = CubicSpline(chord, points)
    fine = spline(np.linspace(0, chord[-1], 800))
    length = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(fine, axis=0), axis=1))])
    wanted = np.linspace(0, 1, count) * length[-1]
    return np.stack([np.interp(wanted, length, fine[:, a]) for a in range(3)], 1)


def at_vertices(vertices: Array) -> tuple[Array, Array]:
    """Landmarks that are vertices."""
    vertices = np.asarray(vertices)
    weights = np.zeros((len(vertices), 3))
    weights[:, 0] = 1
    return np.repeat(vertices[:, None], 3, 1), weights


def farthest(vertices: Array, candidates: Array, placed: Array, count: int) -> Array:
    """Greedy farthest-point samples from candidates, away from points already placed."""
    points = vertices[candidates]
    distance = np.linalg.norm(points[:, None] - placed[None], axis=2).min(1)
    chosen = []
    for _ in range(count):
        best = int(np.argmax(distance))
        chosen.append(candidates[best])
        distance = np.minimum(distance, np.linalg.norm(points - points[best], axis=1))
    return np.array(chosen)
