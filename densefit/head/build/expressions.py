"""The 52 ARKit shapes: the artist's first, and where scans of people show the same, theirs.

The artist's shapes are on our topology, linings, tongue and lashes included. ICT-FaceKit's are of
people who made the faces: a funnel brings the lips forward, a sneer lifts nose and upper lip, a
smile pushes the cheeks up without a ridge. What the skin of the scans does is carried over like
their identity modes (`average.project`); the rest of our head follows by the difference.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from densefit.head.build import average
from densefit.head.build.anatomy import EYE_RADIUS, MM
from densefit.head.build.assemble import LID_GAP, Assembly, skin_triangle_count, spread
from densefit.head.build.fields import lined
from densefit.head.build.ict import TEETH_AND_GUMS, IctModel
from densefit.head.build.lips import jaw_share, keep_lips_shut
from densefit.head.build.makehuman import BaseMesh, read_expressions
from densefit.head.build.placement import FLIP, Landmarks
from densefit.head.build.registration import transfer
from densefit.head.model import EXPRESSION_INDEX, EXPRESSION_NAMES, twin

Array = np.ndarray[Any, np.dtype[Any]]

LIP_CLOSURE = 0.12
"""Share of mouthClose that shuts the slit the sculptor left between the lips."""
MODELLED = ("eyeBlink", "eyeLook", "tongueOut")
"""Shapes that stay ours: lids are turned on our eyeballs (lids.py), and scans lack the tongue."""

SCANS_SHARE = {"jawOpen": 0.5}
"""How far a shape goes from the artist's to the scans', if not all the way."""
CLOSING = 0.8
"""Share of the scans' mouthClose after which the lips about meet."""
TRACES = (0.15 * MM, 0.5 * MM)
"""Motion that is nothing, and motion that counts whole."""
LOWER_TEETH = 0.3
"""What goes down at least this share of the chin's way when the jaw opens is of the lower teeth."""


def artist_shapes(data: Path, base: BaseMesh, head: Assembly) -> Array:
    """The 52 shapes (52, V, 3) in metres on the assembled head.

    The base mesh's deltas are carried over by the registration's similarity. Lower teeth and gum
    follow the placeholder teeth by an affine map; the eyeballs stay still, since joints turn them.
    """
    frame = head.registration
    raw = read_expressions(data, base, EXPRESSION_NAMES) @ (frame.scale * frame.rotation.T)
    out = np.zeros((len(raw), len(head.vertices), 3))
    known = head.source >= 0
    out[:, known] = raw[:, head.source[known]]
    placeholder = np.unique(base.quads[base.group("helper-lower-teeth")])
    points = frame.scale * base.vertices[placeholder] @ frame.rotation.T + frame.translation
    inverse = np.linalg.pinv(np.column_stack([np.ones(len(points)), points]), rcond=1e-3)
    affine = inverse @ raw[:, placeholder]
    for name in ("lower_teeth", "lower_gum"):
        mine = head.vertices[head.blocks[name]]
        out[:, head.blocks[name]] = np.column_stack([np.ones(len(mine)), mine]) @ affine
    return out


def keep_lids_outside(head: Assembly, shapes: Array) -> Array:
    """At full strength no lid vertex may lie inside an eyeball."""
    skin = head.blocks["skin"]
    out = shapes.copy()
    for i, name in enumerate(EXPRESSION_NAMES):
        if not name.startswith(("eye", "cheekSquint", "browDown")):
            continue
        posed = head.vertices[skin] + out[i, skin]
        for centre in head.eye_centres:
            arm = posed - centre
            radius = np.linalg.norm(arm, axis=1)
            moving = np.linalg.norm(out[i, skin], axis=1) > 0.05 * MM
            sunk = moving & (radius < EYE_RADIUS + LID_GAP) & (arm[:, 2] > -2 * MM)
            posed[sunk] = centre + arm[sunk] / radius[sunk, None] * (EYE_RADIUS + LID_GAP)
        out[i, skin] = posed - head.vertices[skin]
    return out


def with_shapes_of_scans(
    head: Assembly, shapes: Array, ict: IctModel, patches: list[average.Patch]
) -> Array:
    """Shapes (52, V, 3) whose skin moves as that of the scans does.

    Linings and lashes follow by what their neighbours on the skin change, lower teeth, gum and
    tongue by how the scans' lower teeth move otherwise than the artist's.

    Args:
        head: after it came onto the mean of the scans.
        shapes: (52, V, 3) the artist's.
        patches: samples of the scans' face, tied to our surface (`lips.lip_patches`).
    """
    names = [n for n in EXPRESSION_NAMES if n in ict.shapes and not n.startswith(MODELLED)]
    theirs = np.stack([ict.shapes[n] for n in names]).astype(np.float32)
    skin = transfer(head.registration, head.triangles[: skin_triangle_count(head)], ict, theirs)
    still = (np.zeros((len(names), 2, 3)), np.zeros((len(names), 4, 3)))
    carried = spread(head, skin, *still)
    moved = average.project(head, patches, theirs, carried)
    at = [EXPRESSION_INDEX[n] for n in names]
    count = head.blocks["skin"].stop
    change = spread(head, moved[:, :count] - shapes[at, :count], *still)
    change = lined(head, change, shapes[EXPRESSION_INDEX["jawOpen"]])
    lower = [head.blocks[name] for name in ("lower_teeth", "lower_gum")]
    mandible = _mandible(ict, theirs) - _affine(head, lower[0], shapes[at])
    for block in (*lower, head.blocks["tongue"]):
        change[:, block] = _homogeneous(head.vertices[block]) @ mandible
    share = np.array([SCANS_SHARE.get(name, 1.0) for name in names])[:, None, None]
    out = shapes.copy()
    out[at] = _local(out[at] + share * (change + _mirrored(head, change, names)) / 2)
    return out


def _local(fields: Array) -> Array:
    """Fields (K, V, 3) without traces of motion.

    The scans' shapes move the whole face, most of it by hundredths of a millimetre; the fit is fast
    because most landmarks are moved by few shapes.
    """
    far = np.linalg.norm(fields, axis=2, keepdims=True)
    return np.asarray(fields * average.rise(far, *TRACES))


def close_mouth(head: Assembly, shapes: Array, landmarks: Landmarks, jaw_open: Array) -> Array:
    """Shapes (52, V, 3) in which mouthClose shuts the mouth that jawOpen opens, and no more.

    The scans' mouthClose goes on until the lips lie over one another.

    Args:
        jaw_open: (V, 3) the artist's, which tells the lips apart.
    """
    opened, closing = (EXPRESSION_INDEX[name] for name in ("jawOpen", "mouthClose"))
    shut = shapes[opened] + CLOSING * shapes[closing]
    shut = keep_lips_shut(head, shut[None], landmarks, jaw_open)[0]
    out = shapes.copy()
    out[closing] = shut - shapes[opened]
    return out


def _mandible(ict: IctModel, shapes: Array) -> Array:
    """Affine motion (K, 4, 3) of the scans' lower teeth and gum in shapes (K, 26719, 3)."""
    lower = jaw_share(ict.jaw_open)[TEETH_AND_GUMS] > LOWER_TEETH
    inverse = np.linalg.pinv(_homogeneous(ict.neutral[TEETH_AND_GUMS][lower]), rcond=1e-4)
    return np.asarray(inverse @ shapes[:, TEETH_AND_GUMS][:, lower])


def _affine(head: Assembly, block: slice, shapes: Array) -> Array:
    """Affine motion (K, 4, 3) of a block of vertices in shapes (K, V, 3)."""
    return np.asarray(np.linalg.pinv(_homogeneous(head.vertices[block])) @ shapes[:, block])


def _homogeneous(points: Array) -> Array:
    """(N, 4): 1, x, y, z; times an affine motion (4, 3) it is where the points go."""
    return np.column_stack([np.ones(len(points)), points])


def _mirrored(head: Assembly, fields: Array, names: list[str]) -> Array:
    """Fields (K, V, 3) seen in a mirror; those of the left are named as of the right."""
    twins = [names.index(twin(name)) for name in names]
    return np.asarray(fields[twins][:, head.mirror] * FLIP)
