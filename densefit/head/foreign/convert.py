"""Turns another model's arrays into densefit's asset; what it lacks comes by registration.

The shipped head is fitted to the other model's mean surface. At the closest points of the fitted
surface the other model then reads off the 703 landmarks, the neck's share of each vertex, part
labels and, where it has no ARKit shapes of its own, densefit's expressions.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from densefit.errors import InputError
from densefit.evaluate.scan_fit import OUTSIDE, Scan, ScanFitOptions, ScanFitter, closest_on
from densefit.files import write_npz
from densefit.head.build.mesh import vertex_areas, vertex_normals
from densefit.head.model import EXPRESSION_NAMES, HeadModel

Array = np.ndarray[Any, np.dtype[Any]]

EYE_DISTANCE = (0.050, 0.075)
"""Metres: distance of the eyeball centres of a mean adult, which tells the file's unit."""
SAMPLES = 3000
JAW_SHARE = 0.4
"""Of the longest way that a vertex goes in jawOpen: the lower lip goes farther, the upper less."""
SURFACES = {
    "skin": OUTSIDE, "eyes": ("eyes", "iris", "pupil"), "teeth": ("teeth",), "tongue": ("tongue",),
}  # fmt: skip
"""Parts on which landmarks of a kind may lie."""


@dataclass(frozen=True)
class ForeignHead:
    """Another model, in its own unit, y up and z out of the face."""

    name: str
    vertices: Array
    """(V, 3)."""
    triangles: Array
    """(F, 3)."""
    identity: Array
    """(K, V, 3) per standard deviation."""
    eyes: tuple[Array, Array]
    """Vertex indices of the left and right eyeball."""
    eye_centres: Array
    """(2, 3)."""
    expression: dict[str, Array] = field(default_factory=dict)
    """ARKit name to (V, 3); the missing ones are carried over."""
    parts: dict[str, Array] = field(default_factory=dict)
    """Part name to vertex indices, where the file tells."""
    landmarks: Array | None = None
    """(68,) vertices in iBUG order, where the file tells."""
    uv: Array | None = None
    uv_triangles: Array | None = None


def convert(foreign: ForeignHead, head: HeadModel, out: Path) -> Path:
    """Write `foreign` as a densefit head asset.

    Raises:
        InputError: the eyes are not as far apart as a person's in metres, centimetres, decimetres
            or millimetres, or an eye has no vertices, or a number is not finite.
    """
    _check(foreign)
    metric = in_metres(foreign)
    origin = metric.eye_centres.mean(0)
    vertices = metric.vertices - origin
    fitted, identity = _register(metric, vertices, head)
    arrays = _arrays(metric, vertices, origin, head, fitted, identity)
    write_npz(out, **arrays)
    return out


def _check(foreign: ForeignHead) -> None:
    for side, eye in zip(("left", "right"), foreign.eyes, strict=True):
        if not len(eye):
            raise InputError(
                f"{foreign.name}: no vertices of the {side} eye; is the file complete?"
            )
    for values in (foreign.vertices, foreign.identity, foreign.eye_centres):
        if not np.isfinite(values).all():
            raise InputError(f"{foreign.name}: holds numbers that are not finite; copy it again")


def in_metres(foreign: ForeignHead) -> ForeignHead:
    """The same model in metres."""
    distance = float(np.linalg.norm(foreign.eye_centres[0] - foreign.eye_centres[1]))
    for unit in (1.0, 0.1, 0.01, 0.001):
        if EYE_DISTANCE[0] < distance * unit < EYE_DISTANCE[1]:
            return replace(
                foreign,
                vertices=foreign.vertices * unit,
                identity=foreign.identity * np.float32(unit),
                eye_centres=foreign.eye_centres * unit,
                expression={k: v * unit for k, v in foreign.expression.items()},
            )
    raise InputError(
        f"{foreign.name}: its eyes are {distance:.4g} units apart, which is no person's in any of "
        "m, dm, cm, mm; is the file complete?"
    )


def _register(foreign: ForeignHead, vertices: Array, head: HeadModel) -> tuple[Array, Array]:
    """The shipped head fitted to the mean surface: vertices (V, 3) in the foreign head frame, and
    its identity (K,)."""
    inner = np.concatenate([foreign.eyes[0], foreign.eyes[1], *foreign.parts.values()])
    outer = np.setdiff1d(np.arange(len(vertices)), inner)
    faces = foreign.triangles[np.isin(foreign.triangles, outer).all(1)]
    if not len(faces):
        raise InputError(f"{foreign.name}: no skin is left beside eyes and mouth")
    area = vertex_areas(vertices, faces)
    rng = np.random.default_rng(0)
    front = area * (vertices[:, 2] > -0.12) * (vertices[:, 1] > -0.12)
    chosen = rng.choice(len(vertices), SAMPLES, p=front / front.sum())
    marks = np.full((68, 3), np.nan)
    if foreign.landmarks is not None:
        marks = vertices[foreign.landmarks]
    scan = Scan(foreign.name, vertices[chosen], vertex_normals(vertices, faces)[chosen], marks)
    fit = ScanFitter(head).fit(scan, ScanFitOptions(noise=0.5e-3))
    back = (fit.vertices - fit.translation) @ fit.rotation
    return back, fit.identity


def _arrays(
    foreign: ForeignHead, vertices: Array, origin: Array, head: HeadModel, fitted: Array,
    identity: Array,
) -> dict[str, Array]:  # fmt: skip
    part = _parts(foreign, vertices, head, fitted)
    skin = head.triangles[head.part_triangles(*OUTSIDE, "mouth")]
    near = closest_on(fitted, skin, vertices)
    corners, weights = skin[near.triangle], near.weights

    def carried(values: Array) -> Array:
        return np.einsum("vc,...vcd->...vd", weights, values[..., corners, :])

    expression = carried(head.expression_basis.astype(np.float64))
    for i, name in enumerate(EXPRESSION_NAMES):
        if name in foreign.expression:
            expression[i] = foreign.expression[name]
    skinning = carried(head.skinning.astype(np.float64))
    skinning[:, 1] += skinning[:, 2:].sum(1)
    skinning[:, 2:] = 0
    for joint, eye in zip((2, 3), foreign.eyes, strict=True):
        skinning[eye] = 0
        skinning[eye, joint] = 1
        expression[:, eye] = 0
    skinning /= skinning.sum(1, keepdims=True)
    landmark_vertices, landmark_weights = _landmarks(foreign, vertices, head, fitted, part)
    joints = head.joint_positions(identity).copy()
    joints[2:] = foreign.eye_centres - origin
    joint_basis = np.zeros((len(foreign.identity), 4, 3), np.float32)
    joint_basis[:, 2:] = np.stack([foreign.identity[:, e].mean(1) for e in foreign.eyes], 1)
    uv, uv_triangles = _texture(foreign, vertices)
    mirror = _nearest(vertices, vertices * [-1, 1, 1])
    identity_delta, identity_scale = compressed(foreign.identity)
    expression_delta, expression_scale = compressed(expression)
    return {
        "name": np.array(foreign.name), "template": vertices.astype(np.float32),
        "triangles": foreign.triangles.astype(np.int32), "uv": uv, "uv_triangles": uv_triangles,
        "triangle_part": part, "part_names": np.array(head.part_names),
        "identity_delta": identity_delta, "identity_scale": identity_scale,
        "expression_delta": expression_delta, "expression_scale": expression_scale,
        "joint_centres": joints.astype(np.float32), "joint_basis": joint_basis,
        "skinning": skinning.astype(np.float32), "mirror_vertices": mirror,
        "landmark_vertices": landmark_vertices, "landmark_weights": landmark_weights,
        "landmark_region": head.landmark_region, "region_names": np.array(head.region_names),
        "face320": head.face320, "ibug68": head.ibug68,
        "mirror_landmarks": head.mirror_landmarks,
        # The landmarks mean the same on every model, so networks and their files fit all.
        "landmarks_version": np.array(head.landmarks_version), "lid_limits": head.lid_limits,
    }  # fmt: skip


def _parts(foreign: ForeignHead, vertices: Array, head: HeadModel, fitted: Array) -> Array:
    """(F,) uint8 part of each triangle: the file's word first, else that of the fitted head."""
    skin = head.part_triangles(*OUTSIDE)
    centre = vertices[foreign.triangles].mean(1)
    part = head.triangle_part[skin[closest_on(fitted, head.triangles[skin], centre).triangle]]
    named = dict(foreign.parts) | {"eyes": np.concatenate(foreign.eyes)}
    for name, chosen in named.items():
        inside = np.isin(foreign.triangles, chosen).all(1)
        part[inside] = head.part_names.index(name)
    return part.astype(np.uint8)


def _landmarks(
    foreign: ForeignHead, vertices: Array, head: HeadModel, fitted: Array, part: Array
) -> tuple[Array, Array]:
    """Closest points of the same kind of surface to the fitted landmarks."""
    points = head.landmarks(fitted)
    corners, weights = np.zeros((703, 3), np.int32), np.zeros((703, 3), np.float32)
    names = np.array(head.region_names)[head.landmark_region]
    kinds = {"eyes": ("iris", "sclera"), "teeth": ("teeth",), "tongue": ("tongue",)}
    present = {kind: _faces(foreign, head, part, labels) for kind, labels in SURFACES.items()}
    if not len(present["tongue"]):
        present["tongue"] = _faces(foreign, head, part, ("gums",))
    # Teeth and tongue that the other model lacks are looked for on its skin.
    kind_of = np.full(703, "skin", dtype="<U9")
    for kind, words in kinds.items():
        if len(present[kind]):
            kind_of[[any(w in n for w in words) for n in names]] = kind
    kind_of[["lips" in n and "upper" in n for n in names]] = "upper lip"
    kind_of[["lips" in n and "lower" in n for n in names]] = "lower lip"
    upper, lower = _lips(foreign, present["skin"])
    present |= {"upper lip": upper, "lower lip": lower}
    for kind in ("skin", "upper lip", "lower lip", "teeth", "tongue"):
        mine = kind_of == kind
        if mine.any():
            near = closest_on(vertices, present[kind], points[mine])
            corners[mine], weights[mine] = present[kind][near.triangle], near.weights
    _on_eyes(foreign, vertices, head, kind_of == "eyes", present["eyes"], corners, weights)
    return corners, weights


def _lips(foreign: ForeignHead, faces: Array) -> tuple[Array, Array]:
    """Triangles on which landmarks of the upper lip may lie, and of the lower: those that go with
    the jaw. Lips touch, and the closest place to a landmark of one may be on the other. All for
    both, of a model that has no such shape or whose shape moves nothing."""
    drop = foreign.expression.get("jawOpen")
    if drop is None:
        return faces, faces
    length = np.linalg.norm(drop, axis=1)
    hangs = length[faces].mean(1) > JAW_SHARE * length.max()
    return (faces[~hangs], faces[hangs]) if hangs.any() and not hangs.all() else (faces, faces)


def _faces(foreign: ForeignHead, head: HeadModel, part: Array, labels: tuple[str, ...]) -> Array:
    return foreign.triangles[np.isin(part, [head.part_names.index(n) for n in labels])]


def _on_eyes(
    foreign: ForeignHead, vertices: Array, head: HeadModel, mine: Array, faces: Array,
    corners: Array, weights: Array,
) -> None:  # fmt: skip
    """Iris and sclera keep their distances from the eye's axis, on whatever is foremost there."""
    template = head.landmarks(head.template)
    centres = foreign.eye_centres - foreign.eye_centres.mean(0)
    for side, joint, eye in ((0, 2, foreign.eyes[0]), (1, 3, foreign.eyes[1])):
        whose = mine & ((template[:, 0] > 0) == (side == 0))
        ball = faces[np.isin(faces, eye).all(1)]
        at = centres[side] + template[whose] - head.joint_centres[joint]
        corners[whose], weights[whose] = _foremost(vertices, ball, at)


def _foremost(vertices: Array, triangles: Array, points: Array) -> tuple[Array, Array]:
    """Corners (N, 3) and weights (N, 3) of the foremost (largest z) place of a surface that is
    straight before or behind each point (N, 3); of the closest place where there is none."""
    near = closest_on(vertices, triangles, points)
    corners, weights = triangles[near.triangle], np.array(near.weights)
    a, b, c = (vertices[triangles[:, k]] for k in range(3))
    edges = np.stack([b - a, c - a], -1)[:, :2]
    flat = np.abs(np.linalg.det(edges)) < 1e-12
    inverse = np.linalg.inv(np.where(flat[:, None, None], np.eye(2), edges))
    for row, point in enumerate(points):
        u, v = np.einsum("tij,tj->it", inverse, point[:2] - a[:, :2])
        share = np.stack([1 - u - v, u, v], -1)
        inside = (share > -1e-6).all(1) & ~flat
        if inside.any():
            height = (share * np.stack([a[:, 2], b[:, 2], c[:, 2]], -1)).sum(1)
            best = int(np.where(inside, height, -np.inf).argmax())
            corners[row], weights[row] = triangles[best], share[best]
    return corners, weights


def _texture(foreign: ForeignHead, vertices: Array) -> tuple[Array, Array]:
    """The file's texture coordinates, or a cylinder round the head."""
    if foreign.uv is not None and foreign.uv_triangles is not None:
        return foreign.uv.astype(np.float32), foreign.uv_triangles.astype(np.int32)
    turn = np.arctan2(vertices[:, 0], vertices[:, 2] + 0.08) / (2 * np.pi) + 0.5
    height = (vertices[:, 1] - vertices[:, 1].min()) / np.ptp(vertices[:, 1])
    return np.column_stack([turn, height]).astype(np.float32), foreign.triangles.astype(np.int32)


def _nearest(points: Array, queries: Array) -> Array:
    from scipy.spatial import cKDTree

    return cKDTree(points).query(queries)[1].astype(np.int32)


def compressed(modes: Array) -> tuple[Array, Array]:
    """float16 fractions of each mode's largest entry, and those entries."""
    scale = np.maximum(np.abs(modes).max((1, 2)), 1e-9).astype(np.float32)
    return (modes / scale[:, None, None]).astype(np.float16), scale
