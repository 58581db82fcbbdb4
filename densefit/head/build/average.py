"""Brings the assembled head onto the population: its mean surface, its modes, and its skull.

Registration ends a few tenths of a millimetre off the mean of the scans, since it is stiff, and
flat triangles cut corners. Both are mended by least squares on points spread over the scans' mean
face, each tied to the point of our surface before it: once for the shape itself, and once for
every mode (an L2 projection rather than a reading at the vertices).

The margins of the lids stay on the eyeballs (the scans' eyeballs are larger). Lips are matched one
by one (lips.py). The landmarks are placed before this step and move with the surface by tenths of a
millimetre; those of the lips are laid anew after it.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import scipy.sparse as sp
import scipy.sparse.linalg as sla
from scipy.spatial import cKDTree

from densefit.head.build.anatomy import MM
from densefit.head.build.assemble import PART_NAMES, Assembly, skin_triangle_count
from densefit.head.build.ict import IctModel
from densefit.head.build.lids import lid_margins
from densefit.head.build.mesh import closest, exposure, laplacian, raycaster, vertex_normals
from densefit.head.build.placement import Landmarks

Array = np.ndarray[Any, np.dtype[Any]]

FACE = 105 * MM
"""Points of the scans' mean up to here from the tip of the nose are used; the last 12 mm fade."""
OPEN = 0.15
"""Exposure of a point that is certainly outside."""
REACH, AGREEMENT = 3 * MM, 0.6
"""Farthest partner, and least cosine between normals."""
SLIDE = 0.05
"""Weight of motion along the surface against motion across it."""
STIFFNESS = 0.5
MODE_STIFFNESS, MODE_STAY = 0.3, 0.02
FIXED = 1000.0
"""Weight that holds a vertex in place."""
SPARED = 1 * MM
"""Nearer to lid margins than this nothing moves; from twice as far on everything may."""
NOSE_TIP = 30


@dataclass(frozen=True)
class Samples:
    """Points of the scans' mean face: how they lie on it, positions, normals, weights."""

    corners: Array
    """(N, 3) vertices of the scans' mesh."""
    barycentric: Array
    points: Array
    normals: Array
    weight: Array


@dataclass(frozen=True)
class Patch:
    """Samples, and the triangles (F, 3) of our surface that they may be tied to."""

    samples: Samples
    triangles: Array
    reach: float = REACH


def spread_points(vertices: Array, triangles: Array, where: Array, number: int) -> Samples:
    """Points spread evenly over the triangles whose corners are all in `where` (V,) bool."""
    corners = vertices[triangles]
    area = np.linalg.norm(
        np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1
    ) * where[triangles].all(1)
    rng = np.random.default_rng(0)
    chosen = rng.choice(len(area), number, p=area / area.sum())
    bary = rng.dirichlet([1, 1, 1], number)
    points = (corners[chosen] * bary[..., None]).sum(1)
    normals = (vertex_normals(vertices, triangles)[triangles[chosen]] * bary[..., None]).sum(1)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    return Samples(triangles[chosen], bary, points, normals, np.ones(number))


def face_points(ict: IctModel, number: int = 14000) -> Samples:
    """Points spread evenly over the face of the scans' mean."""
    vertices = ict.neutral[: ict.skin.max() + 1]
    tip = ict.neutral[ict.landmarks[NOSE_TIP]]
    where = exposure(vertices, ict.skin, ict.skin) > OPEN
    where &= np.linalg.norm(vertices - tip, axis=1) < FACE
    samples = spread_points(vertices, ict.skin, where, number)
    far = np.linalg.norm(samples.points - tip, axis=1)
    return replace(samples, weight=np.clip((FACE - far) / (12 * MM), 0, 1))


def face_patch(head: Assembly, samples: Samples) -> Patch:
    """The face's samples, to be tied to the outer skin."""
    outer = [PART_NAMES.index(n) for n in ("skin", "ears", "scalp", "neck")]
    return Patch(samples, head.triangles[np.isin(head.labels, outer)])


def partners(patches: list[Patch], vertices: Array, count: int) -> tuple[sp.csr_matrix, Array]:
    """Closest points of our surface: (N, count) weights of its vertices, and the samples'
    weights (N,), patch after patch."""
    at, weights = [], []
    for patch in patches:
        samples, triangles = patch.samples, patch.triangles
        position, triangle, bary = closest(raycaster(vertices, triangles), samples.points)
        corners = triangles[triangle]
        normal = (vertex_normals(vertices, triangles)[corners] * bary[..., None]).sum(1)
        normal /= np.linalg.norm(normal, axis=1, keepdims=True) + 1e-12
        good = (normal * samples.normals).sum(1) > AGREEMENT
        good &= np.linalg.norm(position - samples.points, axis=1) < patch.reach
        rows = np.repeat(np.arange(len(corners)), 3)
        at.append(sp.csr_matrix((bary.ravel(), (rows, corners.ravel())), (len(corners), count)))
        weights.append(good * samples.weight)
    return sp.vstack(at).tocsr(), np.concatenate(weights)


def joined(patches: list[Patch]) -> Samples:
    """All samples of some patches, in order."""
    names = [field.name for field in fields(Samples)]
    return Samples(*(np.concatenate([getattr(p.samples, n) for p in patches]) for n in names))


def onto_mean(head: Assembly, patches: list[Patch], hold: Array, rounds: int = 5) -> Array:
    """Vertices (V, 3) with the skin of the face on the mean of the scans; exactly symmetric.

    Args:
        hold: (skin vertices,) weights that keep vertices in place (see `spare_lids`).
    """
    samples = joined(patches)
    count = head.blocks["skin"].stop
    start, mirror = head.vertices[:count], head.mirror[:count]
    stiff = laplacian(head.triangles[: skin_triangle_count(head)], count)
    regular = sp.block_diag([STIFFNESS * (stiff.T @ stiff) + sp.diags(1e-3 + hold)] * 3)
    out = head.vertices.copy()
    for _ in range(rounds):
        at, weight = partners(patches, out, count)
        gap = samples.points - at @ start
        across = sp.hstack([at.multiply(samples.normals[:, [a]]) for a in range(3)]).tocsr()
        pull = sp.diags(weight)
        system = across.T @ pull @ across + regular
        system += SLIDE * sp.block_diag([at.T @ pull @ at] * 3)
        right = across.T @ (weight * (gap * samples.normals).sum(1))
        right += SLIDE * np.concatenate([at.T @ (weight * gap[:, a]) for a in range(3)])
        move = sla.spsolve(system.tocsc(), right).reshape(3, -1).T
        out[:count] = start + (move + move[mirror] * [-1, 1, 1]) / 2
    return out


def spare_lids(head: Assembly, landmarks: Landmarks, samples: Samples) -> tuple[Samples, Array]:
    """Leave the margins of the lids on the eyeballs.

    Returns:
        the samples without weight near the margins, and (skin vertices,) how firmly each vertex
        is held while the shape is brought onto the mean.
    """
    tree = cKDTree(np.concatenate(lid_margins(head.vertices, landmarks)))
    weight = samples.weight * rise(tree.query(samples.points)[0], SPARED, 2 * SPARED)
    skin = head.vertices[head.blocks["skin"]]
    return replace(samples, weight=weight), FIXED * (tree.query(skin)[0] < SPARED)


def project(head: Assembly, patches: list[Patch], modes: Array, carried: Array) -> Array:
    """Modes of our skin that come nearest to the scans' modes between the vertices too.

    Args:
        modes: (K, 26719, 3) on the scans' mesh.
        carried: (K, V, 3) the same, read off at our vertices.

    Returns:
        (K, V, 3); the rest of the head is as in `carried`.
    """
    count = head.blocks["skin"].stop
    samples = joined(patches)
    at, weight = partners(patches, head.vertices, count)
    stiff = laplacian(head.triangles[: skin_triangle_count(head)], count)
    system = at.T @ sp.diags(weight) @ at + MODE_STIFFNESS * (stiff.T @ stiff)
    solve = sla.factorized((system + MODE_STAY * sp.identity(count)).tocsc())
    out = carried.copy()
    for mine, theirs in zip(out, modes, strict=True):
        wanted = (theirs[samples.corners] * samples.barycentric[..., None]).sum(1)
        gap = weight[:, None] * (wanted - at @ mine[:count])
        mine[:count] += np.column_stack([solve(at.T @ gap[:, a]) for a in range(3)])
    return out


SKULL_BREADTH = 0.954
"""The scans have hair under a cap, and lie broader than calipers find heads: 159 against 152 mm
(ANSUR II: Gordon et al., "2012 anthropometric survey of U.S. Army personnel", Natick/TR-15/007)."""
SKULL_SPREAD = 0.84
"""Hair varies, too: 7.4 against 6.2 mm in the same survey."""
SKULL_NEAR, SKULL_FAR = 97 * MM, 155 * MM
"""Distances from the tip of the nose between which the skull begins; nearer, nothing changes."""
SKULL_LOW, SKULL_HIGH = -40 * MM, 20 * MM
"""Heights between which the neck ends and the skull begins."""


def skull(vertices: Array, tip: Array) -> Array:
    """(V,) how far a vertex belongs to the skull behind the face, in the frame of the mean."""
    return rise(np.linalg.norm(vertices - tip, axis=1), SKULL_NEAR, SKULL_FAR) * rise(
        vertices[:, 1], SKULL_LOW, SKULL_HIGH
    )


def narrow_skull(head: Assembly, basis: Array) -> tuple[Array, Array]:
    """Vertices (V, 3) and modes (K, V, 3) with breadth and spread of the skull as measured."""
    skin = head.blocks["skin"]
    share = np.zeros(len(head.vertices))
    points = head.vertices[skin]
    share[skin] = skull(points, points[np.argmax(points[:, 2])])
    across = 1 - (1 - SKULL_BREADTH) * share
    out, modes = head.vertices.copy(), basis.copy()
    out[:, 0] *= across
    modes *= (1 - (1 - SKULL_SPREAD) * share)[:, None].astype(basis.dtype)
    modes[..., 0] *= across.astype(basis.dtype)
    return out, modes


def rise(x: Array, low: float, high: float) -> Array:
    """Zero up to `low`, one from `high` on, smooth between."""
    t = np.clip((x - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)
