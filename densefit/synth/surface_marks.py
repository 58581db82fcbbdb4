"""Attributes of the head's vertices that materials threshold: signed distances to lips, brows,
lids, hairline and beard, computed once from the landmarks' own curves on the template."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from densefit.head.model import EXPRESSION_INDEX, HeadModel
from densefit.synth.raster import depth_map

Array = np.ndarray[Any, np.dtype[Any]]

MARKS = (
    "lip", "brow_inside", "brow_across", "brow_along", "lid", "upper_lid", "hairline", "beard",
    "goatee", "moustache", "flush", "oil", "orbit", "iris_x", "iris_y", "ring", "front",
    "unrolled_x", "unrolled_y", "corner_x", "corner_y", "fold_across", "fold_along",
    "strip_across", "strip_along", "strip_number", "strip_kind",
)  # fmt: skip
MARK = {name: index for index, name in enumerate(MARKS)}
"""Column of each attribute. Distances are metres, positive inside. Besides these there is
`exposure`, the share of its surroundings that a point sees, which changes with the face."""
GROUP_MARKS = {
    "skin": (
        "lip", "brow_across", "brow_along", "lid", "upper_lid", "hairline", "beard", "goatee",
        "moustache", "flush", "oil", "orbit", "ring", "front", "unrolled_x", "unrolled_y",
        "corner_x", "corner_y", "fold_across", "fold_along",
    ),
    "eyes": ("iris_x", "iris_y"),
    "mouth": (),
    "hair": ("strip_across", "strip_along", "strip_number", "strip_kind"),
    "props": (),
}  # fmt: skip
"""The attributes that each group of materials reads."""

EXTENSION = 12.0
"""Steps by which the middle line of a brow is extended beyond its ends."""
LIP_REACH = 0.009
"""Metres from the lips' landmarks up to which skin is seen better when they part."""
AXIS_DEPTH = 0.06
"""The vertical axis around which the face is unrolled lies this far behind the eyes, metres."""


def unroll(points: Array) -> Array:
    """(N, 2) metres: arc length around a vertical axis, and height, of points (N, 3)."""
    angle = np.arctan2(points[:, 0], points[:, 2] + AXIS_DEPTH)
    return np.stack([angle * 0.1, points[:, 1]], 1)


def head_marks(head: HeadModel) -> Array:
    """(V, len(MARKS)) float32 of the head's vertices."""
    out = np.zeros((len(head.template), len(MARKS)), np.float32)
    flat = unroll(head.template)
    landmarks = head.landmarks(head.template)

    def region(*names: str) -> Array:
        return unroll(np.concatenate([landmarks[head.region(n)] for n in names]))

    def put(name: str, values: Array) -> None:
        out[:, MARK[name]] = values

    upper, lower = region("lips_outer_upper"), region("lips_outer_lower")
    lips = np.concatenate([upper, lower[::-1]])
    put("unrolled_x", flat[:, 0])
    put("unrolled_y", flat[:, 1])
    front = head.template[:, 2] > -0.01
    put("lip", np.where(front, signed_distance(flat, lips), -0.05))
    _put_brows(put, flat, region)
    _put_lids(put, head, landmarks)
    scalp = hairline(head.template)
    scalp[np.unique(head.triangles[head.part_triangles("ears")])] = -0.05
    put("hairline", scalp)
    _put_beards(put, flat, lips, region)
    _put_complexion(put, head, landmarks)
    _put_creases(put, flat, lips, region)
    for joint in (2, 3):
        near = head.skinning[:, joint] > 0.5
        arm = head.template[near] - head.joint_centres[joint]
        side = "left" if joint == 2 else "right"
        iris = landmarks[head.region(f"{side}_iris")][:12] - head.joint_centres[joint]
        radius = np.linalg.norm(iris[:, :2], axis=1).mean()
        out[near, MARK["iris_x"]] = arm[:, 0] / radius
        # The back of the eyeball must not show a second iris.
        out[near, MARK["iris_y"]] = np.where(arm[:, 2] > 0, arm[:, 1] / radius, 9.0)
    return out


def _put_brows(put: Any, flat: Array, region: Any) -> None:
    inside = np.full(len(flat), -1.0)
    across, along = np.zeros(len(flat)), np.full(len(flat), -1.0)
    for side in ("left", "right"):
        outline = np.concatenate([region(f"{side}_brow_upper"), region(f"{side}_brow_lower")[::-1]])
        distance = signed_distance(flat, outline)
        middle = region(f"{side}_brow_middle")
        count = len(middle) - 1
        # Straight extensions keep the signed distance smooth beyond both ends.
        reach = EXTENSION * np.stack([middle[0] - middle[1], middle[-1] - middle[-2]])
        line = np.concatenate([middle[:1] + reach[:1], middle, middle[-1:] + reach[1:]])
        away, place, above = polyline_distance(flat, line)
        position = place * (len(line) - 1)
        start, end = position - 1, position - 1 - count
        position = np.where(start < 0, start * EXTENSION, start)
        position = np.where(end > 0, count + end * EXTENSION, position)
        here = distance > inside
        inside[here] = distance[here]
        outwards = 1 if side == "left" else -1
        across[here] = (np.where(above * outwards > 0, away, -away))[here]
        along[here] = (position / count)[here]
    put("brow_inside", inside)
    put("brow_across", across)
    put("brow_along", along)


def _put_lids(put: Any, head: HeadModel, landmarks: Array) -> None:
    best = np.full(len(head.template), 1.0)
    upper = np.zeros(len(head.template))
    for side in ("left", "right"):
        top = landmarks[head.region(f"{side}_upper_lid")]
        bottom = landmarks[head.region(f"{side}_lower_lid")]
        bottom = np.concatenate([top[:1], bottom, top[-1:]])
        to_top, _, _ = polyline_distance(head.template, top)
        to_bottom, _, _ = polyline_distance(head.template, bottom)
        distance = np.minimum(to_top, to_bottom)
        upper = np.where(distance < best, to_top < to_bottom, upper)
        best = np.minimum(best, distance)
    put("lid", best)
    put("upper_lid", upper * 2 - 1)


def hairline(points: Array) -> Array:
    """Signed height over an adult's hairline, metres, as a function of depth; (N,)."""
    depth = np.array([-200, -114, -84, -66, -50, -34, -18, -4, 26]) * 1e-3
    height = np.array([-120, -86, -10, 4, 20, 44, 54, 61, 67]) * 1e-3
    return points[:, 1] - np.interp(points[:, 2], depth, height)


def _put_beards(put: Any, flat: Array, lips: Array, region: Any) -> None:
    """Outlines of beards in the unrolled face, from mouth, nose and jaw."""
    mouth_x = np.abs(lips[:, 0]).max()
    low_lip, top_lip = lips[:, 1].min(), lips[:, 1].max()
    nose = region("nose_base")[:, 1].min()
    jaw = region("jaw")
    corner = lips[np.abs(lips[:, 0]).argmax(), 1]
    x, y = np.abs(flat[:, 0]), flat[:, 1]
    bare = -signed_distance(flat, lips) - 0.0015
    # Down from the ear, across the cheek, to the corner of the mouth, then around the lower lip.
    line_x = np.array([0, 0.35 * mouth_x, 0.9 * mouth_x, 1.25 * mouth_x, 0.07, 0.095, 0.125, 0.14])
    line_y = np.array([low_lip - 0.004, low_lip - 0.006, low_lip - 0.002, corner, corner + 0.012,
                       corner + 0.035, corner + 0.07, corner + 0.07])  # fmt: skip
    cheek = np.interp(x, line_x, line_y) - y
    chin = jaw[:, 1].min()
    jaw_x = np.abs(jaw[:, 0])
    order = np.argsort(jaw_x)
    under = y - np.interp(x, jaw_x[order], jaw[order, 1]) + 0.022
    ear = 0.112 - x
    beard = np.minimum.reduce([cheek, under, ear * 0.8, bare])
    put("beard", beard)
    reach = 1.05 * mouth_x + 0.004
    goatee = np.minimum.reduce([reach - x, corner + 0.004 - y, y - chin + 0.012, bare])
    put("goatee", goatee)
    bow = nose - 0.0015 - 0.35 * np.maximum(0, x - 0.4 * mouth_x)
    below = y - np.interp(x, [0, mouth_x, 1.3 * mouth_x], [top_lip - 0.006, corner, corner - 0.01])
    put("moustache", np.minimum.reduce([bow - y, below, 1.22 * mouth_x - x, bare]))


def _put_complexion(put: Any, head: HeadModel, landmarks: Array) -> None:
    """Where skin flushes, shines and darkens, as soft spots around landmarks; 0 to 1."""

    def spot(points: Array, radius: float) -> Array:
        away = np.linalg.norm(head.template[:, None] - points[None], axis=2).min(1)
        return np.exp(-((away / radius) ** 2))

    tip = landmarks[head.region("nose_ridge")][-1:]
    corner = landmarks[head.region("left_upper_lid")][-1]
    cheek = corner + np.array([0.004, -0.032, 0.004])
    ear = landmarks[head.region("left_ear")]
    flip = np.array([-1.0, 1.0, 1.0])
    cheeks = np.stack([cheek, cheek * flip])
    ears = np.concatenate([ear, ear * flip])
    put(
        "flush",
        np.maximum.reduce([spot(cheeks, 0.024), 0.8 * spot(tip, 0.014), 0.7 * spot(ears, 0.012)]),
    )
    brow = landmarks[
        np.concatenate([head.region("left_brow_upper"), head.region("right_brow_upper")])
    ]
    forehead = brow.mean(0, keepdims=True) + np.array([[0, 0.02, 0.0]])
    ridge = landmarks[head.region("nose_ridge")]
    put(
        "oil",
        np.maximum.reduce(
            [0.8 * spot(forehead, 0.035), spot(ridge, 0.010), 0.6 * spot(cheeks, 0.02)]
        ),
    )
    under = np.concatenate([landmarks[head.region(f"{s}_lower_fold")] for s in ("left", "right")])
    put("orbit", spot(under, 0.009))


def _put_creases(put: Any, flat: Array, lips: Array, region: Any) -> None:
    """Places in the unrolled face from the outer corner of the eye, and of the fold between nose
    and cheek: metres across it (positive on the mouth's side) and how far along."""
    corner = region("left_upper_lid")[-1]
    folded = np.stack([np.abs(flat[:, 0]), flat[:, 1]], 1)
    put("corner_x", folded[:, 0] - corner[0])
    put("corner_y", folded[:, 1] - corner[1])
    wing = region("left_nose_wing")
    wing = np.array([wing[:, 0].max(), wing[:, 1].max()])
    mouth = lips[lips[:, 0].argmax()]
    line = np.stack([
        wing + [0.001, 0.003], wing * 0.55 + mouth * 0.45 + [0.008, 0.002],
        mouth + [0.010, 0.003], mouth + [0.009, -0.014],
    ])  # fmt: skip
    away, along, side = polyline_distance(folded, line)
    put("fold_across", np.where(side < 0, away, -away))
    put("fold_along", along)


def polyline_distance(points: Array, line: Array) -> tuple[Array, Array, Array]:
    """Distance (N,) of points to a polyline (M, D), where along it, in [0, 1], and on which side
    of it in the plane of the first two axes: positive on the left of its direction."""
    best = np.full(len(points), np.inf)
    place, side = np.zeros(len(points)), np.zeros(len(points))
    for i in range(len(line) - 1):
        step = line[i + 1] - line[i]
        t = np.clip((points - line[i]) @ step / max(float(step @ step), 1e-12), 0, 1)
        away = np.linalg.norm(points - line[i] - t[:, None] * step, axis=1)
        nearer = away < best
        best[nearer] = away[nearer]
        place[nearer] = (i + t[nearer]) / (len(line) - 1)
        arm = points - line[i]
        side[nearer] = (step[0] * arm[:, 1] - step[1] * arm[:, 0])[nearer]
    return best, place, side


def signed_distance(points: Array, outline: Array) -> Array:
    """Distance (N,) of points (N, 2) to a closed outline (M, 2), positive inside."""
    closed = np.concatenate([outline, outline[:1]])
    away, _, _ = polyline_distance(points, closed)
    inside = np.zeros(len(points), bool)
    for a, b in zip(closed[:-1], closed[1:], strict=True):
        crosses = (a[1] > points[:, 1]) != (b[1] > points[:, 1])
        with np.errstate(divide="ignore", invalid="ignore"):
            x = (b[0] - a[0]) * (points[:, 1] - a[1]) / (b[1] - a[1]) + a[0]
        inside ^= crosses & (points[:, 0] < x)
    return np.where(inside, away, -away)


def exposures(head: HeadModel, directions: int = 60, size: int = 128) -> Array:
    """(4, V) share of the half space above each vertex from which it can be seen.

    At rest; with the lips apart, for the inside of the mouth (equal to rest elsewhere); with the
    eyes shut; and with the lips apart, for the lips (equal to rest elsewhere).
    """
    expression = np.zeros((3, 52), np.float32)
    for name, value in (("jawOpen", 0.45), ("mouthUpperUpLeft", 0.5), ("mouthUpperUpRight", 0.5),
                        ("mouthLowerDownLeft", 0.5), ("mouthLowerDownRight", 0.5)):  # fmt: skip
        expression[1, EXPRESSION_INDEX[name]] = value
    for name in ("eyeBlinkLeft", "eyeBlinkRight"):
        expression[2, EXPRESSION_INDEX[name]] = 1
    identity = np.zeros(head.identity_count, np.float32)
    poses = head.vertices(identity, expression, np.zeros((3, 4, 3), np.float32))
    solid = head.triangles[head.triangle_part != head.part_names.index("lashes")]
    triangles = torch.as_tensor(solid).long()
    measured = [_exposure(torch.tensor(p), triangles, directions, size).numpy() for p in poses]
    rest, opened, shut = measured
    outside = np.unique(head.triangles[head.part_triangles("skin", "ears", "neck", "scalp")])
    inner = head.part_triangles("mouth", "teeth", "gums", "tongue")
    centre = head.template[head.triangles[inner]].mean(1)
    inner = inner[(centre[:, 1] < -0.053) & (np.abs(centre[:, 0]) < 0.036)]
    inside = np.setdiff1d(np.unique(head.triangles[inner]), outside)
    mouth = rest.copy()
    mouth[inside] = opened[inside] + 1e-4
    landmarks = head.landmarks(head.template)
    lips = np.concatenate([landmarks[head.region(n)] for n in head.region_names if "lips" in n])
    away = head.template.astype(float)[:, None] - lips  # to every landmark: there are few
    near = np.linalg.norm(away, axis=2).min(1) < LIP_REACH
    near[inside] = False
    eyes = np.linalg.norm(head.template[:, None] - head.joint_centres[None, 2:], axis=2).min(1)
    apart = np.where(near, np.maximum(rest, opened), rest)
    return np.stack([rest, mouth, np.where(eyes < 0.025, shut, rest), apart])


def _exposure(vertices: Tensor, triangles: Tensor, directions: int, size: int) -> Tensor:
    normals = vertex_normals(vertices[None], triangles)[0]
    seen, total = torch.zeros(len(vertices)), torch.zeros(len(vertices))
    # A Fibonacci spiral spreads directions evenly.
    k = torch.arange(directions) + 0.5
    polar, turn = torch.acos(1 - 2 * k / directions), math.pi * (1 + 5**0.5) * k
    unit = torch.stack([polar.sin() * turn.cos(), polar.sin() * turn.sin(), polar.cos()], 1)
    low, high = vertices.amin(0), vertices.amax(0)
    middle, reach = (low + high) / 2, float((high - low).norm()) / 2
    for some in unit.split(12):
        helper = torch.eye(3)[some.abs().argmin(1)]
        right = torch.nn.functional.normalize(torch.linalg.cross(helper, some), dim=1)
        frame = torch.stack([right, torch.linalg.cross(some, right), some], 1)
        local = (vertices - middle) @ frame.transpose(1, 2)
        pixel = (local[..., :2] / reach + 1) * size / 2
        # Orthographic "inverse depth" grows towards the viewer and is positive. The second axis
        # points up, unlike a picture's, so that front faces count as back faces.
        depth = local[..., 2] / reach + 2
        points = torch.cat([pixel, depth[..., None]], -1)
        image = depth_map(points, triangles, size, size, "front").flatten(1)
        x, y = pixel.round().long().clamp(0, size - 1).unbind(-1)
        clear = (depth + 0.0035 / reach >= image.gather(1, y * size + x)).float()
        cosine = (some @ normals.T).clamp_min(0)
        seen += (clear * cosine).sum(0)
        total += cosine.sum(0)
    return seen / total.clamp_min(1e-6)


def vertex_normals(vertices: Tensor, triangles: Tensor) -> Tensor:
    """Area-weighted unit normals (B, V, 3) of vertices (B, V, 3)."""
    corner = [vertices[:, triangles[:, k]] for k in range(3)]
    face = torch.linalg.cross(corner[1] - corner[0], corner[2] - corner[0])
    out = torch.zeros_like(vertices)
    for k in range(3):
        out.index_add_(1, triangles[:, k], face)
    return torch.nn.functional.normalize(out, dim=-1)
