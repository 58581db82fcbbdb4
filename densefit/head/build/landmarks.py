"""Places the 703 landmarks: ordered curves on brows, lids, irises, nose, lips, jaw and teeth, and
evenly spread points on forehead, cheeks, ears, scalp and neck.

The curves are splines through the 68 landmarks that ICT-FaceKit defines on its mean head, laid
onto the surface. The order is fixed: region by region, the subject's left before the right.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from densefit.head.build.anatomy import MM, crown_marks, iris_vertices, sclera_vertices
from densefit.head.build.assemble import PART_NAMES, Assembly
from densefit.head.build.lip_landmarks import add_lips
from densefit.head.build.mesh import cast, raycaster
from densefit.head.build.placement import (
    FLIP,
    Landmarks,
    Placement,
    Surface,
    at_vertices,
    curve,
    farthest,
    knots,
)
from densefit.head.build.subsets import face320, ibug68

Array = np.ndarray[Any, np.dtype[Any]]


def place(head: Assembly, ibug: Array, lower_lip: Array) -> Landmarks:
    """Define the landmarks.

    Args:
        head: in the frame of the ICT mean head.
        ibug: (68, 3) iBUG points of the ICT mean head, metres.
        lower_lip: (V,) bool: skin that goes down with the jaw.
    """
    out, surface, twin = Placement(), Surface(head), head.mirror
    _brows(out, surface, ibug, twin)
    _eyes(out, surface, ibug, twin)
    _nose(out, surface, ibug, twin)
    add_lips(out, surface, ibug, twin, lower_lip)
    jaw = knots(ibug[16:7:-1], 2)
    both = np.concatenate([jaw, (jaw * FLIP)[-2::-1]])
    out.add_centred("jaw", *surface.lay(both), twin)
    _teeth(out, head, twin)
    _tongue(out, head, twin)
    _scattered(out, surface, head)
    assert len(out) == 703, len(out)
    region = np.array(out.region_of, np.uint8)
    return Landmarks(
        np.array(out.vertices, np.int32),
        np.array(out.weights, np.float32),
        region,
        tuple(out.regions),
        face320(out),
        ibug68(out, head, ibug),
        np.array(out.mirror, np.int32),
    )


def lay_lips_anew(landmarks: Landmarks, head: Assembly, ibug: Array, lower_lip: Array) -> Landmarks:
    """The same landmarks, with those of the lips placed on the surface as it is now."""
    lips = Placement()
    add_lips(lips, Surface(head), ibug, head.mirror, lower_lip)
    vertices, weights = landmarks.vertices.copy(), landmarks.weights.copy()
    for number, name in enumerate(lips.regions):
        rows = landmarks.region == landmarks.region_names.index(name)
        chosen = np.array(lips.region_of) == number
        vertices[rows] = np.array(lips.vertices)[chosen]
        weights[rows] = np.array(lips.weights)[chosen]
    return replace(landmarks, vertices=vertices, weights=weights)


# Upper edge of the left brow, inner to outer end: x and height above the eye centres (mm). iBUG's
# annotators mark the upper edge; these are its mean heights over annotated people, a little lower
# since many of those raise their brows.
_BROW_UPPER = np.array([(11.5, 16.0), (24.0, 21.0), (37.4, 22.8), (50.0, 20.2), (58.8, 12.8)])
_BROW_DEPTH = np.array([0.95, 1, 1, 1, 1, 0.9, 0.75, 0.55, 0.25])
"""Thickness along the brow, as a share of the full one: it tapers towards the temple."""


def _brows(out: Placement, surface: Surface, ibug: Array, twin: Array) -> None:
    """Upper edge, middle and lower edge of each brow, inner to outer end."""
    height = surface.head.eye_centres[0, 1]
    upper = np.column_stack([_BROW_UPPER * MM + [0, height], ibug[22:27, 2]])
    edge = knots(upper, 2)
    for name, drop in (("upper", 0.0), ("middle", 4.0), ("lower", 8.0)):
        down = np.zeros_like(edge)
        down[:, 1] = -drop * MM * _BROW_DEPTH
        out.add_pair(f"brow_{name}", *surface.lay(edge + down), twin)


def _eyes(out: Placement, surface: Surface, ibug: Array, twin: Array) -> None:
    """Lid margins (inner to outer corner), folds, iris and sclera."""
    margin = _lid_margin(surface.head, ibug)
    upper = np.concatenate([margin["inner"][None], margin["upper"], margin["outer"][None]])
    out.add_pair("upper_lid", *surface.lay(curve(upper, 13)), twin)
    lower = np.concatenate([margin["inner"][None], margin["lower"], margin["outer"][None]])
    out.add_pair("lower_lid", *surface.lay(curve(lower, 13)[1:-1]), twin)
    centre = surface.head.eye_centres[0]
    for name, line, reach in (("upper_fold", upper, 1.42), ("lower_fold", lower, 1.5)):
        ring = curve(line, 11)[1:-1]
        outward = (ring - centre) * [1, 1, 0]
        lift = np.array([0, 4.0 if name == "upper_fold" else -5.0, 2.0]) * MM
        out.add_pair(name, *surface.lay(ring + outward * (reach - 1.3) + lift), twin)
    eye = surface.head.blocks["left_eye"].start
    rim, pole = iris_vertices()
    for name, chosen in (("iris", np.append(rim, pole)), ("sclera", sclera_vertices())):
        out.add_pair(name, *at_vertices(eye + np.asarray(chosen)), _eye_twin(surface.head, twin))


def _eye_twin(head: Assembly, twin: Array) -> Array:
    """The right eyeball repeats the left one's vertices in order, mirrored."""
    out = twin.copy()
    left, right = head.blocks["left_eye"], head.blocks["right_eye"]
    count = left.stop - left.start
    out[left], out[right] = right.start + np.arange(count), left.start + np.arange(count)
    return out


def _lid_margin(head: Assembly, ibug: Array) -> dict[str, Array]:
    """The left palpebral rim as seen from the front: where skin gives way to eyeball.

    Rays along -z find the boundary on a fan of columns between the corners.
    """
    eyes = [PART_NAMES.index(n) for n in ("eyes", "iris", "pupil")]
    solid = head.labels != PART_NAMES.index("lashes")
    scene = raycaster(head.vertices, head.triangles[solid])
    is_eye = np.isin(head.labels[solid], eyes)
    inner, outer = ibug[42], ibug[45]
    columns = np.linspace(inner[0], outer[0], 15)[2:-2]
    found: dict[str, list[Array]] = {"upper": [], "lower": []}
    y = np.linspace(inner[1] - 10 * MM, inner[1] + 12 * MM, 1101)
    for x in columns:
        origin = np.stack([np.full_like(y, x), y, np.full_like(y, 0.3)], -1)
        hit = cast(scene, origin, np.array([0, 0, -1.0]))
        white = is_eye[np.minimum(hit["primitive_ids"], len(is_eye) - 1)] & np.isfinite(
            hit["t_hit"]
        )
        if not white.any():
            continue
        low, high = np.flatnonzero(white)[[0, -1]]
        for name, at in (("lower", low - 2), ("upper", high + 2)):
            found[name].append(np.array([x, y[at], 0.3 - hit["t_hit"][at]]))
    return {
        "inner": inner, "outer": outer,
        "upper": np.array(found["upper"]), "lower": np.array(found["lower"]),
    }  # fmt: skip


def _nose(out: Placement, surface: Surface, ibug: Array, twin: Array) -> None:
    """Ridge from root to tip, the midline under the tip, wings and sides."""
    ridge = knots(ibug[27:31], 3)
    out.add("nose_ridge", *surface.midline(ridge))
    out.add("nose_base", *surface.midline(curve(_profile(surface, ibug[30], ibug[33]), 5)[1:]))
    # From the septum along the nostril sill to the wing, then up the wing's outline.
    sill = knots(ibug[33:36], 3)[1:]
    wing_base = ibug[35]
    outline = np.array(
        [
            wing_base + np.array(d) * MM
            for d in (
                (0, 0, 0),
                (3.6, 3.5, -3.0),
                (4.4, 8.0, -2.8),
                (2.4, 12.5, 1.0),
                (-1.5, 15.0, 5.0),
            )
        ]
    )
    out.add_pair("nostril", *surface.lay(sill), twin)
    out.add_pair("nose_wing", *surface.lay(curve(outline, 7)[1:]), twin)
    for name, along, away in (("nose_flank", 0.45, 5.0), ("nose_side", 0.8, 10.0)):
        line = curve(ibug[27:31], 8)[:-1] + np.array([away, 0, -away * along * 1.6]) * MM
        out.add_pair(name, *surface.lay(line), twin)


def _profile(surface: Surface, top: Array, bottom: Array) -> Array:
    """The midline of the skin between two points of it, top to bottom, as vertices."""
    used = np.unique(surface.triangles)
    points = surface.head.vertices[used]
    between = (
        (points[:, 1] < top[1]) & (points[:, 1] > bottom[1]) & (np.abs(points[:, 0]) < 0.1 * MM)
    )
    between &= points[:, 2] > bottom[2] - 2 * MM
    inner = points[between]
    return np.concatenate([top[None], inner[np.argsort(-inner[:, 1])], bottom[None]])


def _teeth(out: Placement, head: Assembly, twin: Array) -> None:
    """Biting edge and gum line of the five front teeth of each side and jaw."""
    count = (head.blocks["upper_teeth"].stop - head.blocks["upper_teeth"].start) // 12
    edge, gum = crown_marks()
    for jaw in ("upper", "lower"):
        start = head.blocks[f"{jaw}_teeth"].start
        swap = twin.copy()
        for i in range(6):
            a, b = start + i * count, start + (i + 6) * count
            swap[a : a + count], swap[b : b + count] = (
                np.arange(b, b + count),
                np.arange(a, a + count),
            )
        chosen = [start + i * count + mark for i in range(4) for mark in (edge, gum)]
        out.add_pair(f"{jaw}_teeth", *at_vertices(np.array(chosen)), swap)


def _tongue(out: Placement, head: Assembly, twin: Array) -> None:
    """Tip of the tongue and four points behind it on the midline of its back."""
    block = head.blocks["tongue"]
    points = head.vertices[block]
    middle = np.flatnonzero(np.abs(points[:, 0]) < 0.3 * MM)
    top = middle[points[middle, 1] >= np.median(points[middle, 1])]
    order = top[np.argsort(-points[top, 2])]
    out.add(
        "tongue", *at_vertices(block.start + order[np.linspace(0, len(order) * 0.6, 5).astype(int)])
    )


def _scattered(out: Placement, surface: Surface, head: Assembly) -> None:
    """Farthest-point samples, left half and mirror image, on what the curves leave free."""
    placed = np.einsum("kcd,kc->kd", head.vertices[np.array(out.vertices)], np.array(out.weights))
    part = {
        n: np.unique(head.triangles[head.labels == PART_NAMES.index(n)])
        for n in ("skin", "ears", "scalp", "neck")
    }
    neck = part["neck"][head.vertices[part["neck"], 1] > -0.150]
    face = np.setdiff1d(part["skin"], np.concatenate([part["ears"], part["scalp"]]))
    remaining = 703 - len(out) - 2 * 24 - (4 + 2 * 28) - (4 + 2 * 18)
    middle = 7 if remaining % 2 else 8
    for name, candidates, on_middle, pairs in (
        ("ear", part["ears"], 0, 24),
        ("face", face, middle, (remaining - middle) // 2),
        ("scalp", part["scalp"], 4, 28),
        ("neck", neck, 4, 18),
    ):
        x = head.vertices[candidates, 0]
        central = candidates[np.abs(x) < 0.1 * MM]
        left = candidates[(x > 2.5 * MM) & (head.mirror[candidates] != candidates)]
        if on_middle:
            chosen = farthest(head.vertices, central, placed, on_middle)
            placed = np.concatenate([placed, head.vertices[chosen]])
            out.add(f"{name}_middle", *at_vertices(chosen[np.argsort(-head.vertices[chosen, 1])]))
        chosen = farthest(head.vertices, left, placed, pairs)
        placed = np.concatenate([placed, head.vertices[chosen], head.vertices[head.mirror[chosen]]])
        out.add_pair(name, *at_vertices(chosen), head.mirror)
