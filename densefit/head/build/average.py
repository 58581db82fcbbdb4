"""Brings the assembled head onto the population: its mean surface, its modes, and its skull.

Registration ends a few tenths of a millimetre off the mean of the scans, since it is stiff, and
flat triangles cut corners. Both are mended by least squares on points spread over the scans' mean
face, each tied to the point of our surface before it: once for the shape itself, and once for
every mode (an L2 projection rather than a reading at the vertices).

The landmarks are defined before this step, and networks learn where they lie. Lids and lips stay
where they are, and other landmarks of the face move by tenths of a millimetre.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
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
SPARED = 6 * MM
"""Nearer to lid margins and lips than this nothing moves; from twice as far on everything may."""
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


def face_points(ict: IctModel, number: int = 14000) -> Samples:
    """Points spread evenly over the face of the scans' mean."""
    vertices = ict.neutral[: ict.skin.max() + 1]
    corners = vertices[ict.skin]
    area = np.linalg.norm(
        np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1
    )
    tip = ict.neutral[ict.landmarks[NOSE_TIP]]
    area *= (exposure(vertices, ict.skin, ict.skin)[ict.skin] > OPEN).all(1)
    area *= np.linalg.norm(corners.mean(1) - tip, axis=1) < FACE
    rng = np.random.default_rng(0)
    chosen = rng.choice(len(area), number, p=area / area.sum())
    bary = rng.dirichlet([1, 1, 1], number)
    points = (corners[chosen] * bary[..., None]).sum(1)
    normals = (vertex_normals(vertices, ict.skin)[ict.skin[chosen]] * bary[..., None]).sum(1)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    weight = np.clip((FACE - np.linalg.norm(points - tip, axis=1)) / (12 * MM), 0, 1)
    return Samples(ict.skin[chosen], bary, points, normals, weight)


def partners(head: Assembly, vertices: Array, samples: Samples) -> tuple[sp.csr_matrix, Array]:
    """Closest points of the outer skin: (N, skin vertices) weights, and the samples' weights."""
    outer = [PART_NAMES.index(n) for n in ("skin", "ears", "scalp", "neck")]
    triangles = head.triangles[np.isin(head.labels, outer)]
    position, triangle, bary = closest(raycaster(vertices, triangles), samples.points)
    corners = triangles[triangle]
    normal = (vertex_normals(vertices, triangles)[corners] * bary[..., None]).sum(1)
    normal /= np.linalg.norm(normal, axis=1, keepdims=True) + 1e-12
    good = (normal * samples.normals).sum(1) > AGREEMENT
    good &= np.linalg.norm(position - samples.points, axis=1) < REACH
    rows = np.repeat(np.arange(len(corners)), 3)
    shape = (len(corners), head.blocks["skin"].stop)
    return sp.csr_matrix((bary.ravel(), (rows, corners.ravel())), shape=shape), good * (
        samples.weight
    )


def onto_mean(head: Assembly, samples: Samples, hold: Array, rounds: int = 5) -> Array:
    """Vertices (V, 3) with the skin of the face on the mean of the scans; exactly symmetric.

    Args:
        hold: (skin vertices,) weights that keep vertices in place (see `spare`).
    """
    count = head.blocks["skin"].stop
    start, mirror = head.vertices[:count], head.mirror[:count]
    stiff = laplacian(head.triangles[: skin_triangle_count(head)], count)
    regular = sp.block_diag([STIFFNESS * (stiff.T @ stiff) + sp.diags(1e-3 + hold)] * 3)
    out = head.vertices.copy()
    for _ in range(rounds):
        at, weight = partners(head, out, samples)
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


def spare(head: Assembly, landmarks: Landmarks, samples: Samples) -> tuple[Samples, Array]:
    """Leave lids and lips as they are: what touches there would otherwise be torn apart.

    Returns:
        the samples without weight near lids and lips, and (skin vertices,) how firmly each vertex
        is held while the shape is brought onto the mean.
    """
    region = np.array(landmarks.region_names)[landmarks.region]
    points = landmarks.positions(head.vertices)[["lips" in name for name in region]]
    tree = cKDTree(np.concatenate([points, *lid_margins(head.vertices, landmarks)]))
    weight = samples.weight * _rise(tree.query(samples.points)[0], SPARED, 2 * SPARED)
    skin = head.vertices[head.blocks["skin"]]
    return replace(samples, weight=weight), FIXED * (tree.query(skin)[0] < SPARED)


def project(head: Assembly, samples: Samples, fields: Array, carried: Array) -> Array:
    """Modes of our skin that come nearest to the scans' modes between the vertices too.

    Args:
        fields: (K, 26719, 3) on the scans' mesh.
        carried: (K, V, 3) the same, read off at our vertices.

    Returns:
        (K, V, 3); the rest of the head is as in `carried`.
    """
    count = head.blocks["skin"].stop
    at, weight = partners(head, head.vertices, samples)
    stiff = laplacian(head.triangles[: skin_triangle_count(head)], count)
    system = at.T @ sp.diags(weight) @ at + MODE_STIFFNESS * (stiff.T @ stiff)
    solve = sla.factorized((system + MODE_STAY * sp.identity(count)).tocsc())
    out = carried.copy()
    for mine, theirs in zip(out, fields, strict=True):
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
    return _rise(np.linalg.norm(vertices - tip, axis=1), SKULL_NEAR, SKULL_FAR) * _rise(
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


def _rise(x: Array, low: float, high: float) -> Array:
    t = np.clip((x - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)
