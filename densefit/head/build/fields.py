"""Identity fields of the assembled head."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from densefit.head.build.anatomy import MM
from densefit.head.build.assemble import PART_NAMES, Assembly, spread
from densefit.head.build.makehuman import BaseMesh, read_target, sample_people
from densefit.head.build.mesh import vertex_areas

Array = np.ndarray[Any, np.dtype[Any]]


def ear_vertices(data: Path, base: BaseMesh, head: Assembly) -> Array:
    """(V,) bool: what the artist's ear translation carries along whole."""
    out = np.zeros(len(head.vertices), bool)
    known = head.source >= 0
    for side in "lr":
        path = data / f"mpfb2/targets/ears/{side}-ear-trans-up.target.gz"
        size = np.linalg.norm(read_target(path, len(base.vertices)), axis=1)
        out[known] |= (size > 0.75 * size.max())[head.source[known]]
    return out


def line_with_skin(head: Assembly, basis: Array, jaw_open: Array) -> Array:
    """Identity modes (K, V, 3) in which the linings of mouth and nostrils move with the skin before
    them, and the tongue with the lips.

    Nothing measured says how linings vary; extrapolated, they came out through the chin.

    Args:
        jaw_open: (V, 3) the shape jawOpen.
    """
    out = lined(head, basis, jaw_open)
    lips = lip_vertices(head.vertices)
    out[:, head.blocks["tongue"]] = basis[:, lips].mean(1)[:, None]
    return out


def lined(head: Assembly, fields: Array, jaw_open: Array) -> Array:
    """Fields (K, V, 3) with linings of mouth and nostrils that move with the skin before them.

    Upper and lower lip touch, so neighbours are sought by place and by what the open jaw does to
    them.

    Args:
        jaw_open: (V, 3) the shape jawOpen.
    """
    from scipy.spatial import cKDTree

    mouth = head.labels == PART_NAMES.index("mouth")
    outer = np.unique(head.triangles[head.labels < PART_NAMES.index("mouth")])
    inner = np.setdiff1d(np.unique(head.triangles[mouth]), outer)
    place = np.hstack([head.vertices, 0.5 * jaw_open])
    distance, near = cKDTree(place[outer]).query(place[inner], k=12)
    weight = np.exp(-0.5 * (distance / (distance[:, :1] + 2 * MM)) ** 2)
    weight = (weight / weight.sum(1, keepdims=True)).astype(np.float32)
    out = fields.copy()
    out[:, inner] = np.einsum("kvnd,vn->kvd", fields[:, outer[near]], weight)
    return out


def lip_vertices(vertices: Array) -> Array:
    """Skin round the mouth's opening, in the frame of the mean head."""
    x, y, z = vertices.T
    return np.flatnonzero((np.abs(x) < 12 * MM) & (np.abs(y + 34 * MM) < 9 * MM) & (z > 104 * MM))


ARTIST_ALONE = 100
"""Modes of a head with the artist's people alone."""


@dataclass(frozen=True)
class IdentityOptions:
    """How the identity space is put together."""

    modes: int = 256
    artist_alone: bool = False
    """Only the artist's people as they are: a model to compare with."""
    artist_samples: int = 400
    artist_modes: int = 60
    artist_spread: float = 0.6
    """Share of the artist's variation kept: sliders go further than people do."""
    artist_spread_face: float = 0.1
    """The same on the face, where real scans already say how people vary."""
    gp_scales: tuple[float, ...] = (0.060, 0.030, 0.015)
    """Metres: correlation lengths of the Gaussian-process deformations."""
    gp_deviations: tuple[float, ...] = (0.0004, 0.00025, 0.0004)
    """Metres: standard deviation per coordinate at each scale."""
    gp_modes: tuple[int, ...] = (30, 60, 120)


def identity(
    data: Path, base: BaseMesh, head: Assembly, scans: Array, options: IdentityOptions
) -> tuple[Array, Array]:
    """Identity modes: real scans' statistics, plus what the artist and smooth fields add.

    The three parts are independent Gaussians, so their covariances add up; the result is expressed
    in its principal axes.

    Args:
        scans: (100, V, 3) modes of real scans per standard deviation.

    Returns:
        basis (K, V, 3) in metres per standard deviation, and the eyes' share (K, 2, 3).
    """
    if options.artist_alone:
        people = _artist_people(data, base, head, options, scaling=True)
        everything = _complete(head, _principal(people, ARTIST_ALONE))
    else:
        artist = _artist_modes(data, base, head, scans, options)
        smooth = _gaussian_process(head, options)
        everything = np.concatenate([scans, artist, smooth]).astype(np.float32)
    triangles = head.triangles
    weight = np.sqrt(vertex_areas(head.vertices, triangles)).astype(np.float32)
    weight[head.blocks["skin"].stop :] *= 0.5
    flat = (everything * (weight / weight.mean())[:, None]).reshape(len(everything), -1)
    values, vectors = np.linalg.eigh((flat @ flat.T).astype(np.float64))
    order = np.argsort(values)[::-1][: options.modes]
    basis = np.tensordot(vectors[:, order].T.astype(np.float32), everything, 1)
    eyes = np.stack([basis[:, head.blocks[b]].mean(1) for b in ("left_eye", "right_eye")], 1)
    return basis, eyes


def _artist_modes(
    data: Path, base: BaseMesh, head: Assembly, scans: Array, options: IdentityOptions
) -> Array:
    """Principal modes of what the artist's people have and the real scans' modes cannot make."""
    skin = head.blocks["skin"]
    people = _artist_people(data, base, head, options, scaling=False)
    area = vertex_areas(head.vertices, head.triangles)[skin]
    matched = head.registration.matched
    known = (scans[:, skin][:, matched] * np.sqrt(area[matched, None])).reshape(len(scans), -1)
    mine = (people[:, matched] * np.sqrt(area[matched, None])).reshape(len(people), -1)
    gram = known @ known.T + 1e-4 * np.trace(known @ known.T) / len(known) * np.eye(len(known))
    people -= np.tensordot((mine @ known.T) @ np.linalg.inv(gram), scans[:, skin], 1).astype(
        np.float32
    )
    modes = _principal(people, options.artist_modes)
    front = _face_weight(head.vertices[skin])
    modes *= (options.artist_spread + front * (options.artist_spread_face - options.artist_spread))[
        :, None
    ]
    return _complete(head, modes)


def _artist_people(
    data: Path, base: BaseMesh, head: Assembly, options: IdentityOptions, scaling: bool
) -> Array:
    """Deviations (N, skin vertices, 3) of the artist's random people from their mean, without rigid
    motion and, unless `scaling`, without differences of size."""
    skin = head.blocks["skin"]
    people = sample_people(data, base, options.artist_samples, 0, head.source[skin])
    frame = head.registration
    people = people @ (frame.scale * frame.rotation.T).astype(np.float32)
    people -= people.mean(0)
    points = head.vertices[skin] - head.vertices[skin].mean(0)
    area = vertex_areas(head.vertices, head.triangles)[skin]
    weight = np.sqrt(area) * (points[:, 1] > -0.09)
    return _without_motion(people, points, weight, scaling)


def _principal(people: Array, number: int) -> Array:
    """The leading modes (number, V, 3) of deviations (N, V, 3), per standard deviation."""
    flat = people.reshape(len(people), -1)
    values, vectors = np.linalg.eigh((flat @ flat.T).astype(np.float64))
    order = np.argsort(values)[::-1][:number]
    modes = vectors[:, order].T @ flat / np.sqrt(len(people) - 1)
    return modes.reshape(len(order), *people.shape[1:])


def _face_weight(vertices: Array) -> Array:
    """One on the face, zero on ears, back and neck, in the frame of the mean head."""
    return np.clip((vertices[:, 2] - 0.03) / 0.03, 0, 1) * np.clip(
        (vertices[:, 1] + 0.09) / 0.02, 0, 1
    )


def _without_motion(fields: Array, points: Array, weight: Array, scaling: bool) -> Array:
    """Remove the weighted least-squares rigid motion from fields (N, V, 3), and scaling unless it
    is to stay."""
    axes = np.eye(3)
    moves = (
        [np.tile(a, (len(points), 1)) for a in axes]
        + [np.cross(a, points) for a in axes]
        + [points] * (not scaling)
    )
    system = np.stack(moves).astype(np.float32)
    weighted = (system * weight[:, None]).reshape(len(moves), -1)
    inverse = np.linalg.pinv(weighted.T)
    for i, field in enumerate(fields):
        fields[i] = field - np.tensordot(inverse @ (field * weight[:, None]).ravel(), system, 1)
    return fields


def _gaussian_process(head: Assembly, options: IdentityOptions) -> Array:
    """Smooth deformations (Luethi et al., Gaussian Process Morphable Models, PAMI 2018).

    Squared-exponential kernels on positions, each coordinate independent, by the Nystroem method.
    """
    skin = head.vertices[head.blocks["skin"]]
    rng = np.random.default_rng(1)
    out = []
    for scale, deviation, count in zip(
        options.gp_scales, options.gp_deviations, options.gp_modes, strict=True
    ):
        anchors = skin[rng.choice(len(skin), 600, replace=False)]

        def kernel(a: Array, b: Array, s: float = scale) -> Array:
            return np.exp(-((a[:, None] - b[None]) ** 2).sum(-1) / (2 * s * s))

        values, vectors = np.linalg.eigh(kernel(anchors, anchors))
        top = np.argsort(values)[::-1][: max(1, count // 3)]
        scalar = kernel(skin, anchors) @ vectors[:, top] / np.sqrt(values[top])
        for axis in range(3):
            field = np.zeros((len(top), len(skin), 3), np.float32)
            field[:, :, axis] = deviation * scalar.T
            out.append(field)
    return _complete(head, np.concatenate(out))


def _complete(head: Assembly, skin: Array) -> Array:
    """Carry skin modes to eyes and mouth; lids move rigidly with their eyeball."""
    modes = skin.copy()
    points = head.vertices[head.blocks["skin"]]
    eyes = np.zeros((len(modes), 2, 3), np.float32)
    for k, centre in enumerate(head.eye_centres):
        distance = np.linalg.norm(points - centre, axis=1)
        near = np.exp(-0.5 * (distance / (9 * MM)) ** 2) * (points[:, 2] > centre[2])
        eyes[:, k] = (modes * near[:, None]).sum(1) / near.sum()
        blend = np.clip((20 * MM - distance) / (6 * MM), 0, 1)[None, :, None]
        modes = modes * (1 - blend) + eyes[:, k, None] * blend
    inside = (
        (np.abs(points[:, 0]) < 0.03)
        & (np.abs(points[:, 1] + 0.034) < 0.02)
        & (points[:, 2] > 0.07)
    )
    lips = points[inside]
    inverse = np.linalg.pinv(np.column_stack([np.ones(len(lips)), lips]), rcond=1e-2)
    mouth = np.einsum("av,kvd->kad", inverse[:1], modes[:, inside])
    affine = np.concatenate([mouth, np.zeros((len(modes), 3, 3), np.float32)], 1)
    affine[:, 0] = modes[:, inside].mean(1)
    return spread(head, modes, eyes, affine)
