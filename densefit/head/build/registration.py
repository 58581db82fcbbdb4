"""Non-rigid registration of the MakeHuman skin to the mean of real scans (ICT-FaceKit).

Amberg et al., "Optimal Step Nonrigid ICP Algorithms for Surface Registration" (CVPR 2007), with
the stiffness on the Laplacian of the displacement field and point-to-plane data terms.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
import scipy.sparse.linalg as sla

from densefit.head.build.ict import IctModel
from densefit.head.build.mesh import (
    closest,
    exposure,
    laplacian,
    raycaster,
    similarity,
    vertex_areas,
    vertex_normals,
)

Array = np.ndarray[Any, np.dtype[Any]]

# iBUG landmarks picked once on the left half and the midline of MakeHuman's base mesh.
PICKED = {
    45: 6802, 42: 11487, 43: 6838, 44: 6790, 46: 13373, 47: 6831, 54: 10403,
    51: 455, 57: 492, 33: 343, 62: 474, 66: 523, 30: 5054,
}  # fmt: skip
MIRRORED = {45: 36, 42: 39, 43: 38, 44: 37, 46: 41, 47: 40, 54: 48}

SEEN = 0.12
"""Exposure above which a vertex belongs to the outside of the head."""


@dataclass(frozen=True)
class Registration:
    """A source skin laid onto the target, and where each of its vertices lies there."""

    vertices: Array
    """(V, 3) metres, frame of the target."""
    matched: Array
    """(V,) bool: outside vertices that found a partner."""
    triangle: Array
    """(V,): target triangles."""
    barycentric: Array
    """(V, 3)."""
    scale: float
    rotation: Array
    translation: Array
    """The similarity that brought the source near the target, for what is not registered."""


@dataclass(frozen=True)
class Stage:
    """One step of the coarse-to-fine schedule."""

    iterations: int
    stiffness: float
    reach: float
    """Metres: partners farther away are ignored."""
    agreement: float
    """Cosine between the normals of partners."""


SCHEDULE = (
    Stage(4, 300, 0.030, 0.3),
    Stage(4, 100, 0.020, 0.4),
    Stage(4, 30, 0.015, 0.5),
    Stage(4, 8, 0.010, 0.6),
    Stage(5, 2, 0.006, 0.6),
    Stage(5, 0.6, 0.005, 0.6),
)


def register(
    source: Array, triangles: Array, vertex_of: Array, mirror: Array, ict: IctModel
) -> Registration:
    """Lay the source skin onto the ICT mean head.

    Args:
        source: (V, 3) metres.
        triangles: (F, 3).
        vertex_of: (19158,) index in `source` of each base mesh vertex, or -1.
        mirror: (V,) left-right twins; the result is exactly symmetric.
        ict: the target.
    """
    marks = _marks(vertex_of, mirror)
    ibug, at = np.array(list(marks)), np.array(list(marks.values()))
    goal = ict.neutral[ict.landmarks[ibug]]
    scale, rotation, translation = similarity(source[at], goal)
    start = scale * source @ rotation.T + translation
    return _iterate(start, triangles, mirror, ict, at, goal, (scale, rotation, translation))


def _marks(vertex_of: Array, mirror: Array) -> dict[int, int]:
    marks = {k: int(vertex_of[v]) for k, v in PICKED.items()}
    marks |= {twin: int(mirror[marks[k]]) for k, twin in MIRRORED.items()}
    assert min(marks.values()) >= 0
    return marks


def _iterate(
    start: Array,
    triangles: Array,
    mirror: Array,
    ict: IctModel,
    at: Array,
    goal: Array,
    frame: tuple[float, Array, Array],
) -> Registration:
    count = len(start)
    seen = exposure(start, triangles, triangles) > SEEN
    target_exposure = exposure(ict.neutral[: ict.skin.max() + 1], ict.skin, ict.skin)
    target_normals = vertex_normals(ict.neutral, ict.skin)
    scene = raycaster(ict.neutral, ict.skin)
    stiff = laplacian(triangles, count)
    stiff = sp.kron(stiff.T @ stiff, sp.eye(3)).tocsc()
    area = vertex_areas(start, triangles)
    weight = np.sqrt(area / area.mean()).clip(0.3, 3)
    ears = ear_mask(start)
    x, flip = np.zeros_like(start), np.array([-1.0, 1.0, 1.0])
    for number, stage in enumerate(s for s in SCHEDULE for _ in range(s.iterations)):
        current = start + x
        partner, triangle, bary = closest(scene, current)
        corners = ict.skin[triangle]
        normal = (target_normals[corners] * bary[..., None]).sum(1)
        normal /= np.linalg.norm(normal, axis=1, keepdims=True) + 1e-9
        own = vertex_normals(current, triangles)
        matched = seen & ((target_exposure[corners] * bary).sum(1) > SEEN)
        matched &= (own * normal).sum(1) > stage.agreement
        matched &= np.linalg.norm(partner - current, axis=1) < stage.reach
        # Ears slide along their folds when they are far off: let them follow the skull first.
        trust = matched * weight * np.where(ears, 0.02 if number < 16 else 0.3, 1.0)
        block = trust[:, None, None] * (normal[:, :, None] * normal[:, None, :] + 0.06 * np.eye(3))
        right = np.einsum("nij,nj->ni", block, partner - start)
        pull = np.zeros(count)
        pull[at] = 30.0 if number < 20 else 10.0
        right[at] += pull[at, None] * (goal - start[at])
        data = sp.bsr_matrix((block, np.arange(count), np.arange(count + 1)), shape=stiff.shape)
        soft = sp.kron(sp.diags(pull + 1e-6), sp.eye(3))
        x = sla.spsolve((stage.stiffness * stiff + data + soft).tocsc(), right.ravel()).reshape(
            -1, 3
        )
        x = (x + x[mirror] * flip) / 2
    vertices = start + x
    _, triangle, bary = closest(scene, vertices)
    return Registration(vertices, matched & matched[mirror], triangle, bary, *frame)


def ear_mask(vertices: Array) -> Array:
    """(V,) bool: around the ears, in the frame of the ICT mean head (metres)."""
    x, y, z = np.abs(vertices[:, 0]), vertices[:, 1], vertices[:, 2]
    return (x > 0.066) & (y > -0.02) & (y < 0.06) & (z > -0.045) & (z < 0.035)


def transfer(registration: Registration, triangles: Array, ict: IctModel, fields: Array) -> Array:
    """Vector fields on the ICT skin, carried to the registered skin.

    Matched vertices read the field at their partner; the rest (mouth, nostrils, sockets, the lower
    neck) takes the smoothest continuation (bi-Laplacian). On the ears, where partners across folds
    are uncertain, only the smooth part of the field is kept.

    Args:
        fields: (K, 26719, 3).

    Returns:
        (K, V, 3).
    """
    count = len(registration.vertices)
    corners = ict.skin[registration.triangle]
    known = np.einsum("kvcd,vc->kvd", fields[:, corners], registration.barycentric)
    stiff = laplacian(triangles, count)
    ears = ear_mask(registration.vertices)
    weight = registration.matched * np.where(ears, 0.02, 10.0)
    solve = sla.factorized((stiff.T @ stiff + sp.diags(weight + 1e-6)).tocsc())
    right = known * weight[:, None]
    out = np.stack([np.column_stack([solve(f[:, a]) for a in range(3)]) for f in right])
    keep = (registration.matched & ~ears)[None, :, None]
    return np.where(keep, known, out).astype(np.float32)
