"""Puts the pieces together: one mesh, its deformation fields and joints, in the head frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
import scipy.sparse.linalg as sla

from densefit.head.build.anatomy import EYE_RADIUS, MM, Part, eyeball, gum, teeth
from densefit.head.build.ict import EYEBALLS, TEETH_AND_GUMS, IctModel
from densefit.head.build.makehuman import BaseMesh
from densefit.head.build.mesh import exposure, laplacian, largest_component, split_quads
from densefit.head.build.registration import SEEN, Registration, register, transfer

Array = np.ndarray[Any, np.dtype[Any]]

PART_NAMES = (
    "skin", "ears", "scalp", "neck", "mouth", "eyes", "iris", "pupil", "teeth", "gums", "tongue",
    "lashes",
)  # fmt: skip
LASH_GROUPS = (
    "helper-l-eyelashes-1", "helper-l-eyelashes-2", "helper-r-eyelashes-1", "helper-r-eyelashes-2",
)  # fmt: skip
CORNEA_PROUD = 0.55 * MM
"""The pole of the eyeball sphere stands this far before the ICT sclera, where the cornea is."""
LID_GAP = 0.12 * MM
"""Between eyeball and lid margin."""


@dataclass
class Assembly:
    """The growing head. Vertices are in the frame of the ICT mean head until `finish`."""

    vertices: Array
    triangles: Array
    labels: Array
    uv: Array
    uv_triangles: Array
    mirror: Array
    source: Array
    """(V,) vertex of the base mesh, or -1 for modelled parts."""
    blocks: dict[str, slice]
    """Vertex ranges: skin, tongue, lashes, left_eye, right_eye, upper_teeth, lower_teeth, ..."""
    registration: Registration
    eye_centres: Array
    """(2, 3) left, right."""


def crop_skin(base: BaseMesh, adult: Array) -> tuple[Array, Array, Array]:
    """Skin from the collar bone up: triangles, UV triangles (base indices), vertices kept."""
    quads = base.group("body")
    corners = adult[base.quads[quads]]
    inside = ((corners[..., 1] > 0.53) & (np.abs(corners[..., 0]) < 0.115)).all(1)
    chosen = quads[inside]
    triangles = split_quads(base.quads[chosen])
    uv_triangles = split_quads(base.uv_quads[chosen])
    kept = largest_component(triangles, len(adult))
    alive = np.isin(triangles[:, 0], np.unique(kept))
    return triangles[alive], uv_triangles[alive], np.unique(kept)


def assemble(base: BaseMesh, adult: Array, ict: IctModel) -> Assembly:
    """Register the skin to the mean of real heads and add eyes, teeth, gums, tongue, lashes."""
    triangles, uv_triangles, kept = crop_skin(base, adult)
    index = np.full(len(adult), -1)
    index[kept] = np.arange(len(kept))
    mirror = index[base.mirror[kept]]
    skin = index[triangles]
    fit = register(adult[kept], skin, index, mirror, ict)
    eyes = ict.eye_centres()
    eyes[:, 2] += ict.eye_radius() - EYE_RADIUS + CORNEA_PROUD
    vertices = fit_lids(fit.vertices, skin, mirror, eyes)
    pieces = [("skin", vertices, skin, ["skin"] * len(skin))]
    moved = fit.scale * adult @ fit.rotation.T + fit.translation
    shift = _mouth_shift(base, adult, moved, fit, kept)
    sources = [kept]
    for name, groups, label in (
        ("tongue", ("helper-tongue",), "tongue"),
        ("lashes", LASH_GROUPS, "lashes"),
    ):
        faces = base.group(*groups)
        used = np.unique(base.quads[faces])
        local = np.full(len(adult), -1)
        local[used] = np.arange(len(used))
        points = (
            moved[used] + shift if name == "tongue" else _follow(moved[used], moved[kept], vertices)
        )
        pieces.append(
            (name, points, local[split_quads(base.quads[faces])], [label] * (2 * len(faces)))
        )
        sources.append(used)
    modelled: list[tuple[str, list[Part]]] = [
        ("left_eye", [eyeball(eyes[0])]), ("right_eye", [_mirrored(eyeball(eyes[0]))]),
        ("upper_teeth", teeth(True)), ("lower_teeth", teeth(False)),
        ("upper_gum", [gum(True)]), ("lower_gum", [gum(False)]),
    ]  # fmt: skip
    for name, parts in modelled:
        joined = _join(parts)
        pieces.append((name, joined.vertices, joined.triangles, list(joined.labels)))
        sources.append(np.full(len(joined.vertices), -1))
    return _stack(
        base, pieces, sources, uv_triangles, [_join(p).uv for _, p in modelled], fit, eyes
    )


def _mirrored(part: Part) -> Part:
    return Part(part.vertices * [-1, 1, 1], part.triangles[:, ::-1], part.labels, part.uv)


def _join(parts: list[Part]) -> Part:
    starts = np.cumsum([0] + [len(p.vertices) for p in parts])
    return Part(
        np.concatenate([p.vertices for p in parts]),
        np.concatenate([p.triangles + s for p, s in zip(parts, starts[:-1], strict=True)]),
        tuple(label for p in parts for label in p.labels),
        np.concatenate([p.uv for p in parts]),
    )


def _mouth_shift(
    base: BaseMesh, adult: Array, moved: Array, fit: Registration, kept: Array
) -> Array:
    """How far registration moved the lips: what lies inside the mouth goes with them."""
    index = np.full(len(adult), -1)
    index[kept] = np.arange(len(kept))
    lips = np.array([474, 523])
    return (fit.vertices[index[lips]] - moved[lips]).mean(0)


def _follow(points: Array, before: Array, after: Array, neighbours: int = 4) -> Array:
    """Move points with the nearest vertices of a surface that moved."""
    from scipy.spatial import cKDTree

    distance, near = cKDTree(before).query(points, k=neighbours)
    weight = 1 / (distance + 1e-4) ** 2
    weight /= weight.sum(1, keepdims=True)
    return points + ((after - before)[near] * weight[..., None]).sum(1)


def fit_lids(vertices: Array, triangles: Array, mirror: Array, eyes: Array) -> Array:
    """Bring the lid margins onto 12 mm eyeballs and keep all skin outside of them."""
    balls = [eyeball(eyes[0]), _mirrored(eyeball(eyes[0]))]
    offset = len(vertices)
    occluders = np.concatenate(
        [
            triangles,
            balls[0].triangles + offset,
            balls[1].triangles + offset + len(balls[0].vertices),
        ]
    )
    everything = np.concatenate([vertices, balls[0].vertices, balls[1].vertices])
    scene_exposure = _exposure_with(vertices, triangles, everything, occluders)
    seen = scene_exposure > SEEN
    pairs = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    crossing = pairs[seen[pairs[:, 0]] != seen[pairs[:, 1]]]
    rim = np.unique(crossing)
    goal, fixed = vertices.copy(), np.zeros(len(vertices), bool)
    for centre in eyes:
        arm = vertices - centre
        radius = np.linalg.norm(arm, axis=1)
        margin = np.isin(np.arange(len(vertices)), rim) & (radius < 15 * MM) & (arm[:, 2] > 3 * MM)
        sunk = (radius < EYE_RADIUS + LID_GAP) & (arm[:, 2] > 0)
        for chosen in (margin & seen, sunk):
            goal[chosen] = centre + arm[chosen] / radius[chosen, None] * (EYE_RADIUS + LID_GAP)
            fixed |= chosen
    near = np.min([np.linalg.norm(vertices - c, axis=1) for c in eyes], axis=0) < 22 * MM
    stiff = laplacian(triangles, len(vertices))
    weight = np.where(fixed, 30.0, np.where(near, 1e-3, 30.0))
    system = (stiff.T @ stiff + sp.diags(weight)).tocsc()
    move = sla.spsolve(system, weight[:, None] * (goal - vertices))
    move = (move + move[mirror] * [-1, 1, 1]) / 2
    return push_out(vertices + move, eyes)


def push_out(vertices: Array, eyes: Array) -> Array:
    """Skin that sank into an eyeball is put on its surface."""
    out = vertices.copy()
    for centre in eyes:
        arm = out - centre
        radius = np.linalg.norm(arm, axis=1)
        sunk = (radius < EYE_RADIUS + LID_GAP) & (arm[:, 2] > 0)
        out[sunk] = centre + arm[sunk] / radius[sunk, None] * (EYE_RADIUS + LID_GAP)
    return out


def _exposure_with(vertices: Array, triangles: Array, everything: Array, occluders: Array) -> Array:
    """Exposure of the skin with the eyeballs in place."""
    padded = np.concatenate([triangles, occluders[len(triangles) :]])
    return exposure(everything, padded, occluders)[: len(vertices)]


def _stack(
    base: BaseMesh,
    pieces: list[tuple[str, Array, Array, list[str]]],
    sources: list[Array],
    skin_uv: Array,
    modelled_uv: list[Array],
    fit: Registration,
    eyes: Array,
) -> Assembly:
    starts = np.cumsum([0] + [len(p[1]) for p in pieces])
    blocks = {
        p[0]: slice(int(a), int(b)) for p, a, b in zip(pieces, starts[:-1], starts[1:], strict=True)
    }
    vertices = np.concatenate([p[1] for p in pieces])
    triangles = np.concatenate([p[2] + a for p, a in zip(pieces, starts[:-1], strict=True)])
    labels = np.array([PART_NAMES.index(name) for p in pieces for name in p[3]], np.uint8)
    source = np.concatenate(sources)
    uv, uv_triangles = [base.uv], [skin_uv]
    for groups in (("helper-tongue",), LASH_GROUPS):
        uv_triangles.append(split_quads(base.uv_quads[base.group(*groups)]))
    offset = len(base.uv)
    for (_, points, faces, _), flat in zip(pieces[3:], modelled_uv, strict=True):
        uv.append(flat)
        uv_triangles.append(faces + offset)
        offset += len(points)
    all_uv, compact = np.unique(np.concatenate(uv_triangles), return_inverse=True)
    from scipy.spatial import cKDTree

    _, mirror = cKDTree(vertices).query(vertices * [-1, 1, 1])
    skin_count = blocks["skin"].stop
    index = np.full(len(base.vertices), -1)
    index[source[:skin_count]] = np.arange(skin_count)
    mirror[:skin_count] = index[base.mirror[source[:skin_count]]]
    return Assembly(
        vertices, triangles, labels, np.concatenate(uv)[all_uv], compact.reshape(-1, 3), mirror,
        source, blocks, fit, eyes,
    )  # fmt: skip


def label_skin(head: Assembly, ear: Array) -> None:
    """Divide the skin into face, ears, scalp, neck and hidden parts, by position and exposure.

    Args:
        ear: (V,) bool: vertices of the auricles.
    """
    skin = head.labels == PART_NAMES.index("skin")
    seen = exposure(head.vertices, head.triangles, head.triangles) > SEEN * 0.6
    centre = head.vertices[head.triangles].mean(1)
    _, y, z = centre.T
    hairline = np.interp(z, np.array([-100, -30, 0, 30, 50, 80, 110]) * MM,
                         np.array([-80, -50, 30, 50, 75, 98, 103]) * MM)  # fmt: skip
    under_jaw = np.interp(z, np.array([-20, 20, 50, 80, 100]) * MM,
                          np.array([-35, -45, -70, -88, -95]) * MM)  # fmt: skip
    hidden = ~seen[head.triangles].any(1)
    for name, mask in (
        ("scalp", y > hairline),
        ("neck", y < under_jaw),
        ("ears", ear[head.triangles].all(1)),
        ("mouth", hidden),
    ):
        head.labels[skin & mask] = PART_NAMES.index(name)


def drop_sockets(head: Assembly) -> None:
    """Remove the skin behind the lids: eyeballs hide it, and it would poke through thin lids."""
    hidden = head.labels == PART_NAMES.index("mouth")
    distance = [np.linalg.norm(head.vertices - c, axis=1) for c in head.eye_centres]
    near = np.min(distance, axis=0)[head.triangles].min(1) < 21 * MM
    keep = ~(hidden & near)
    head.triangles, head.labels = head.triangles[keep], head.labels[keep]
    head.uv_triangles = head.uv_triangles[keep]


def tuck_inside(head: Assembly, depth: float = 1.5 * MM) -> None:
    """Move the linings of mouth and nostrils away from the skin, which they would poke through."""
    from scipy.spatial import cKDTree

    hidden = head.labels == PART_NAMES.index("mouth")
    inner = np.setdiff1d(np.unique(head.triangles[hidden]), np.unique(head.triangles[~hidden]))
    outer = np.unique(head.triangles[head.labels < PART_NAMES.index("mouth")])
    distance, near = cKDTree(head.vertices[outer]).query(head.vertices[inner])
    away = head.vertices[inner] - head.vertices[outer][near]
    away /= np.maximum(distance, 0.2 * MM)[:, None]
    move = np.zeros_like(head.vertices)
    move[inner] = away * (depth * np.clip((6 * MM - distance) / (4 * MM), 0, 1))[:, None]
    head.vertices = head.vertices + (move + move[head.mirror] * [-1, 1, 1]) / 2


def spread(head: Assembly, skin: Array, eyes: Array, mouth: Array) -> Array:
    """Complete fields known on skin, eyes and mouth to all vertices.

    Args:
        skin: (K, skin vertices, 3).
        eyes: (K, 2, 3): motion of the eyeball centres; eyeballs stay rigid.
        mouth: (K, 4, 3): affine motion of teeth, gums and tongue, [1, x, y, z] @ mouth.
    """
    out = np.zeros((len(skin), len(head.vertices), 3), np.float32)
    blocks = head.blocks
    out[:, blocks["skin"]] = skin
    out[:, blocks["left_eye"]] = eyes[:, 0, None]
    out[:, blocks["right_eye"]] = eyes[:, 1, None]
    for name in ("upper_teeth", "lower_teeth", "upper_gum", "lower_gum", "tongue"):
        points = head.vertices[blocks[name]]
        out[:, blocks[name]] = np.column_stack([np.ones(len(points)), points]) @ mouth
    from scipy.spatial import cKDTree

    lashes = head.vertices[blocks["lashes"]]
    distance, near = cKDTree(head.vertices[blocks["skin"]]).query(lashes, k=3)
    weight = 1 / (distance + 2e-4) ** 2
    weight = (weight / weight.sum(1, keepdims=True)).astype(np.float32)
    out[:, blocks["lashes"]] = np.einsum("kvnd,vn->kvd", skin[:, near], weight)
    return out


def ict_fields(head: Assembly, ict: IctModel) -> Array:
    """The identity modes of real scans on the assembled head: (100, V, 3) per standard
    deviation."""
    skin = transfer(
        head.registration, head.triangles[: skin_triangle_count(head)], ict, ict.identity
    )
    eyes = np.stack([ict.identity[:, part].mean(1) for part in EYEBALLS], 1)
    points = ict.neutral[TEETH_AND_GUMS]
    system = np.column_stack([np.ones(len(points)), points])
    inverse = np.linalg.pinv(system)
    mouth = np.einsum("av,kvd->kad", inverse, ict.identity[:, TEETH_AND_GUMS])
    return spread(head, skin, eyes, mouth)


def skin_triangle_count(head: Assembly) -> int:
    """The skin comes first among the triangles."""
    return int((head.triangles.max(1) < head.blocks["skin"].stop).sum())
