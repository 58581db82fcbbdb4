"""Where and how much lids are settled on the eyeballs (see densefit/head/lids.py)."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp
import scipy.sparse.linalg as sla
from scipy.spatial import cKDTree

from densefit.head.build.anatomy import EYE_RADIUS, MM
from densefit.head.build.assemble import LID_GAP, Assembly, skin_triangle_count
from densefit.head.build.mesh import laplacian
from densefit.head.build.placement import Landmarks, curve
from densefit.head.lids import Lids
from densefit.head.model import EXPRESSION_INDEX

Array = np.ndarray[Any, np.dtype[Any]]

AROUND = 24 * MM
"""Skin farther than this from an eyeball's centre never meets it."""
CLOSURE_FULL, CLOSURE_NONE = 4 * MM, 13 * MM
"""Distances from the lid margin between which the blink's hold on the skin fades."""


MEETING = 0.12
"""Where closed lids meet, as a share of the way from the lower margin to the upper one."""
OVERLAP = np.radians(1.2)
"""Each closed lid passes the meeting line by this much, so that no slit is left."""
SHUT_GAP = 0.22 * MM
"""Between eyeball and the edge of a closed lid; nearer, the ball would show between vertices."""
LID_TURNS = {"eyeLookDown": (-19.0, -7.0), "eyeLookUp": (12.0, 4.0)}
"""Degrees by which the middle of the upper and the lower lid follow a gaze at its limit. In
downgaze the upper lid nearly keeps up with the pupil (Malbouisson et al., IOVS 2005)."""
PINNED, STILL = 1.3 * MM, 15 * MM
"""Distances from the margin within which a lid turns as asked, and beyond which nothing changes."""


def turn_lids(head: Assembly, shapes: Array, lines: tuple[Array, Array]) -> Array:
    """Blinks and vertical looks whose margins turn about the line through the eye's corners.

    The artist's shapes were made for a larger eyeball: they close with the upper lid standing off
    and hanging over the lower one. The margins are put where they belong and the skin between
    them and brow or cheek follows smoothly (least bi-Laplacian of the change).

    Args:
        head: the assembled head.
        shapes: (52, V, 3).
        lines: upper and lower margin of the left eye, (M, 3) each, inner to outer corner.

    Returns:
        (52, V, 3) with new blinks, upward and downward looks.
    """
    out, skin, lashes = shapes.copy(), head.blocks["skin"], head.blocks["lashes"]
    points = head.vertices[skin]
    lid = _LidCoordinates(points - head.eye_centres[0], *(x - head.eye_centres[0] for x in lines))
    rim = lid.rim(border(head.triangles[: skin_triangle_count(head)]))
    moves = {"eyeBlink": lid.blink(rim)}
    moves |= {name: lid.follow(*np.radians(turn)) for name, turn in LID_TURNS.items()}
    pinned = (lid.distance < PINNED) & lid.front
    pinned[rim] = True
    weight = np.where(pinned | (lid.distance > STILL), 30.0, 1e-4)
    stiff = laplacian(head.triangles[: skin_triangle_count(head)], len(points))
    solve = sla.factorized((stiff.T @ stiff + sp.diags(weight)).tocsc())
    distance, near = cKDTree(points).query(head.vertices[lashes], k=3)
    anchored = 1 / (distance + 0.2 * MM) ** 2
    anchored /= anchored.sum(1, keepdims=True)
    flip = np.array([-1.0, 1.0, 1.0])
    for name, move in moves.items():
        shape = out[EXPRESSION_INDEX[f"{name}Left"]]
        wanted = (weight * pinned)[:, None] * (move - shape[skin])
        change = np.column_stack([solve(wanted[:, axis]) for axis in range(3)])
        shape[skin] += change
        shape[lashes] += (change[near] * anchored[..., None]).sum(1)
        out[EXPRESSION_INDEX[f"{name}Right"]] = shape[head.mirror] * flip
    return out


class _LidCoordinates:
    """Skin round one eye as (x, angle about the x axis through the eyeball's centre, radius)."""

    def __init__(self, arm: Array, upper: Array, lower: Array) -> None:
        self.arm = arm
        self.angle = np.arctan2(arm[:, 1], arm[:, 2])
        self.upper, self.lower = (
            np.interp(arm[:, 0], line[:, 0], np.arctan2(line[:, 1], line[:, 2]))
            for line in (upper, lower)
        )
        self.on_upper = self.angle > (self.upper + self.lower) / 2
        self.front = arm[:, 2] > 0
        ring = curve(np.concatenate([upper, lower[-2::-1]]), 400)
        self.distance = cKDTree(ring).query(arm)[0]
        middle, half = (upper[0, 0] + upper[-1, 0]) / 2, (upper[-1, 0] - upper[0, 0]) / 2
        self.across = np.sqrt(np.clip(1 - ((arm[:, 0] - middle) / half) ** 2, 0, 1))

    def turned(self, upper: Array, lower: Array) -> Array:
        """Displacements (V, 3) of lids that turn by these angles (V,)."""
        turn = np.where(self.on_upper, upper, lower)
        c, s = np.cos(turn), np.sin(turn)
        x, y, z = self.arm.T
        return np.column_stack([x, c * y + s * z, c * z - s * y]) - self.arm

    def rim(self, vertices: Array) -> Array:
        """Those of the vertices that are edges of the lids, without the corners of the eye."""
        radius = np.linalg.norm(self.arm[vertices], axis=1)
        ends = self.across[vertices] > 0.45
        return vertices[(radius < EYE_RADIUS + 1.5 * MM) & self.front[vertices] & ends]

    def blink(self, rim: Array) -> Array:
        """Displacements that bring the margins together, and their edges (`rim`) onto the ball."""
        meeting = self.lower + MEETING * (self.upper - self.lower)
        overlap = OVERLAP * np.minimum(1, (self.upper - self.lower) / np.radians(3))
        # Towards the nose the margins are further from the drawn lines than elsewhere.
        overlap = overlap * (1 + 2 * np.clip((-self.arm[:, 0] - 4 * MM) / (2 * MM), 0, 1))
        move = self.turned(meeting - overlap - self.upper, meeting + overlap - self.lower)
        shut = self.arm[rim] + move[rim]
        radius = np.linalg.norm(shut, axis=1, keepdims=True)
        move[rim] += shut * (np.minimum(radius, EYE_RADIUS + SHUT_GAP) / radius - 1)
        return move

    def follow(self, upper: float, lower: float) -> Array:
        """Displacements of lids that follow the gaze."""
        return self.turned(upper * self.across, lower * self.across)


def border(triangles: Array) -> Array:
    """Vertices on the open edges of a mesh (F, 3)."""
    edges = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    unique, uses = np.unique(np.sort(edges, axis=1), axis=0, return_counts=True)
    return np.unique(unique[uses == 1])


def lid_settling(
    template: Array, skin: Array, lashes: Array, eyes: Array, margins: tuple[Array, Array],
    edges: Array,
) -> Lids:  # fmt: skip
    """Choose the vertices and their weights.

    Args:
        template: (V, 3) metres.
        skin: indices of skin vertices.
        lashes: indices of lash vertices.
        eyes: (2, 3) centres of the left and right eyeball.
        margins: of each eye, (M, 3) points along both lid margins, closed.
        edges: vertices on the open edges of the skin.
    """
    parts: list[tuple[Array, ...]] = []
    for side, (centre, margin) in enumerate(zip(eyes, margins, strict=True)):
        arm = template[skin] - centre
        radius = np.linalg.norm(arm, axis=1)
        near = (radius < AROUND) & (arm[:, 2] > -4 * MM)
        chosen, radius = skin[near], radius[near]
        distance = cKDTree(curve(margin, 400)).query(template[chosen])[0]
        closure = _fade(distance, CLOSURE_FULL, CLOSURE_NONE)
        contact = _fade(radius - EYE_RADIUS - LID_GAP, 0.05 * MM, 0.8 * MM)
        contact *= _fade(distance, 1.5 * MM, 4 * MM)
        # An edge that stands off the open eye comes nearer when it shuts.
        edge = np.isin(chosen, edges)
        contact[edge & (radius > EYE_RADIUS + SHUT_GAP)] = 0
        # Away from the margin triangles are wide: their middles lie deeper than their corners.
        wide = ~edge * (1 - _fade(distance, 0.5 * MM, 3 * MM))
        floor = EYE_RADIUS + LID_GAP + 0.4 * MM * wide
        side_of = np.full(len(chosen), side)
        parts.append((chosen, side_of, closure, contact, np.minimum(floor, radius), radius))
    vertices, which, closure, contact, floor, radius = (
        np.concatenate([p[k] for p in parts]) for k in range(6)
    )
    distance, anchors = cKDTree(template[vertices]).query(template[lashes], k=3)
    weights = 1 / (distance + 0.2 * MM) ** 2
    weights /= weights.sum(1, keepdims=True)
    single, index = np.float32, np.int32
    return Lids(
        vertices.astype(index), which.astype(index), closure.astype(single),
        contact.astype(single), floor.astype(single), radius.astype(single),
        lashes.astype(index), anchors.astype(index), weights.astype(single),
    )  # fmt: skip


def left_lines(template: Array, marks: Landmarks) -> tuple[Array, Array]:
    """Upper and lower margin (M, 3) of the left eye, inner to outer corner."""
    ring = lid_margins(template, marks)[0]
    upper, lower = ring[:13], ring[12:][::-1]
    return upper, lower


def lid_margins(template: Array, marks: Landmarks) -> tuple[Array, Array]:
    """Points along both lids of the left and the right eye, as closed lines."""
    points = np.einsum("kcd,kc->kd", template[marks.vertices], marks.weights)

    def along(region: str) -> Array:
        return points[marks.region == marks.region_names.index(region)]

    left, right = (
        np.concatenate([along(f"{s}_upper_lid"), along(f"{s}_lower_lid")[::-1],
                        along(f"{s}_upper_lid")[:1]])
        for s in ("left", "right")
    )  # fmt: skip
    return left, right


def _fade(distance: Array, full: float, none: float) -> Array:
    """One up to `full`, zero from `none` on, smooth between."""
    t = np.clip((none - distance) / (none - full), 0, 1)
    return t * t * (3 - 2 * t)
