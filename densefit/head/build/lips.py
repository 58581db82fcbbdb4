"""Both lips on the scans' mean, matched lip by lip.

Where lips touch, closest points and visibility say nothing: half of each lip is hidden, and what is
nearest to the upper lip may be the lower one. With the jaw open both are seen, and what moves with
the jaw tells them apart.
"""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import numpy as np
from scipy.spatial import cKDTree

from densefit.head.build.anatomy import MM
from densefit.head.build.assemble import PART_NAMES, Assembly, skin_triangle_count
from densefit.head.build.average import Patch, Samples, rise, spread_points
from densefit.head.build.ict import IctModel
from densefit.head.build.mesh import closest, exposure, raycaster
from densefit.head.build.placement import Landmarks, curve
from densefit.head.build.registration import SEEN as OUTSIDE

Array = np.ndarray[Any, np.dtype[Any]]

LIPS = slice(48, 68)
"""iBUG points on the lips."""
NEAR, FAR = 5 * MM, 9 * MM
"""Distances from the lips' points between which the face's own samples take over."""
REACH = 6 * MM
JAW_SHARE = 0.35
"""What goes down at least this share of the farthest point's way belongs to the jaw."""
SEEN = 0.1
"""Exposure, with the jaw open, of what is lip and not vestibule."""
PARTED, CLOSING = 0.72 * MM, 4 * MM
"""The mean of the scans parts its lips by this much; they are shut, and what lies this far from the
other lip stays."""
SEAM_NEAR, SEAM_FAR = 2 * MM, 12 * MM
"""Distances from the line where the lips meet between which lips stop moving alike."""


def lip_patches(
    head: Assembly, ict: IctModel, jaw_open: Array, face: Samples
) -> tuple[Samples, list[Patch]]:
    """Samples of both lips, each with the triangles of ours that it may be tied to.

    Args:
        jaw_open: (V, 3) the shape jawOpen.
        face: samples of the face.

    Returns:
        the face's samples without weight at the lips, and the patches of upper and lower lip.
    """
    count = ict.skin.max() + 1
    vertices = ict.neutral[:count]
    tree = cKDTree(ict.neutral[ict.landmarks[LIPS]])
    where = exposure(vertices + ict.jaw_open[:count], ict.skin, ict.skin) > SEEN
    where &= tree.query(vertices)[0] < FAR
    lips = spread_points(vertices, ict.skin, where, 6000)
    lips = replace(lips, weight=1 - rise(tree.query(lips.points)[0], NEAR, FAR))
    share = jaw_share(ict.jaw_open)
    theirs = share[lips.corners].mean(1) > JAW_SHARE
    lower = share[ict.skin].mean(1) > JAW_SHARE
    touching = where[ict.skin].all(1)
    for low in (False, True):
        other = ict.skin[touching & (lower != low)]
        lips.points[theirs == low] = _closed(lips.points[theirs == low], vertices, other)
    triangles = head.triangles[: skin_triangle_count(head)]
    near = tree.query(head.vertices)[0] < FAR + REACH
    triangles = triangles[near[triangles].all(1)]
    mine = jaw_share(jaw_open)[triangles].mean(1) > JAW_SHARE
    patches = [
        Patch(_chosen(lips, theirs == low), triangles[mine == low], REACH) for low in (False, True)
    ]
    weight = face.weight * rise(tree.query(face.points)[0], NEAR, FAR)
    return replace(face, weight=weight), patches


def _closed(points: Array, vertices: Array, other: Array) -> Array:
    """Points of one lip, moved half of the way to the other lip (F, 3) where the two part."""
    nearest, _, _ = closest(raycaster(vertices, other), points)
    gap = np.linalg.norm(nearest - points, axis=1)
    share = 0.5 * np.minimum(1, PARTED / (gap + 1e-9)) * (1 - rise(gap, PARTED, CLOSING))
    return np.asarray(points + share[:, None] * (nearest - points))


def show_lips(head: Assembly, ibug: Array) -> None:
    """What of the lips is seen with the mouth closed becomes skin, the rest stays lining."""
    lining = head.labels == PART_NAMES.index("mouth")
    seen = exposure(head.vertices, head.triangles, head.triangles) > 0.6 * OUTSIDE
    near = cKDTree(ibug[LIPS]).query(head.vertices)[0] < FAR
    head.labels[lining & (seen & near)[head.triangles].any(1)] = PART_NAMES.index("skin")


def keep_lips_shut(head: Assembly, basis: Array, landmarks: Landmarks, jaw_open: Array) -> Array:
    """Identity modes (K, V, 3) in which the edges of both lips move alike.

    Scans of people asked to be neutral part their lips more or less. That is expression: as
    identity it would leave one person's mouth open for good and push another's lips through one
    another.

    Args:
        jaw_open: (V, 3) the shape jawOpen.
    """
    region = np.array(landmarks.region_names)[landmarks.region]
    upper = region == "lips_inner_upper"
    corners = np.flatnonzero(upper)[[0, -1]]
    lower = np.insert(np.flatnonzero(region == "lips_inner_lower"), [0, 15], corners)
    rest = landmarks.positions(head.vertices)
    seam = (rest[upper] + rest[lower]) / 2
    skin = np.arange(head.blocks["skin"].stop)
    points = head.vertices[skin]
    distance = cKDTree(curve(seam, 200)).query(points)[0]
    near = skin[distance < SEAM_FAR]
    hold = 1 - rise(distance[near], SEAM_NEAR, SEAM_FAR)
    side = np.where(jaw_share(jaw_open)[near] > JAW_SHARE, 0.5, -0.5) * hold
    order = np.argsort(seam[:, 0])
    out = basis.copy()
    for mode in out:
        moved = np.einsum("kcd,kc->kd", mode[landmarks.vertices], landmarks.weights)
        apart = (moved[upper] - moved[lower])[order]
        x = points[near, 0]
        gap = np.column_stack([np.interp(x, seam[order, 0], apart[:, a]) for a in range(3)])
        mode[near] += side[:, None] * gap
    return out


def jaw_share(jaw_open: Array) -> Array:
    """(V,) how far each vertex goes down with the jaw, as a share of the farthest."""
    return np.asarray(jaw_open[:, 1] / jaw_open[:, 1].min())


def _chosen(samples: Samples, which: Array) -> Samples:
    return Samples(*(getattr(samples, field.name)[which] for field in fields(Samples)))
