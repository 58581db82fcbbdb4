"""Reads GNM Head (Apache-2.0), Google's `gnm_head.npz` of version 3."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from densefit.errors import InputError
from densefit.files import read_npz
from densefit.head.foreign.convert import ForeignHead

Array = np.ndarray[Any, np.dtype[Any]]

KEYS = (
    "template_vertex_positions", "vertex_identity_basis", "triangles", "joint_names",
    "template_joint_positions",
)  # fmt: skip
# GNM's names of vertex groups, and the part each is here.
EYE_RADIUS = 13.5 / 63
GROUPS = {"tongue": "tongue", "teeth": "teeth", "gums": "gums", "mouth_sock": "mouth"}


def read(path: Path) -> ForeignHead:
    """Read gnm_head.npz.

    Raises:
        InputError: arrays are missing or do not fit together, or another version.
    """
    arrays = read_npz(path)
    missing = [key for key in KEYS if key not in arrays]
    if missing:
        raise InputError(f"{path}: not a GNM head of version 3: it lacks {', '.join(missing)}")
    version = str(arrays.get("version", "3"))
    if version.split(".")[0] not in ("3", "V3"):
        raise InputError(f"{path}: GNM version {version}; this reader knows version 3")
    vertices = arrays["template_vertex_positions"].astype(np.float64)
    identity = arrays["vertex_identity_basis"].astype(np.float32)
    if identity.shape[1:] != vertices.shape:
        raise InputError(
            f"{path}: vertex_identity_basis is {identity.shape}, expected (modes, "
            f"{len(vertices)}, 3)"
        )
    joints = [_joint(path, arrays, side) for side in ("left", "right")]
    groups = _groups(arrays, len(vertices))
    # Of the distance between the eyes, which needs no unit: 13.5 mm of a mean adult's 63.
    radius = EYE_RADIUS * np.linalg.norm(joints[0] - joints[1])
    eyes = []
    for side, centre in zip(("left", "right"), joints, strict=True):
        members = groups.get(f"{side}_eye")
        if members is None or not len(members):
            members = np.flatnonzero(np.linalg.norm(vertices - centre, axis=1) < radius)
        eyes.append(members)
    return ForeignHead(
        name="gnm-head",
        vertices=vertices,
        triangles=arrays["triangles"].astype(np.int64),
        identity=identity,
        eyes=(eyes[0], eyes[1]),
        eye_centres=np.stack(joints),
        parts={mine: groups[name] for name, mine in GROUPS.items() if name in groups},
    )


def _joint(path: Path, arrays: dict[str, Array], side: str) -> Array:
    """Position (3,) of an eye's joint."""
    names = [str(name).lower() for name in arrays["joint_names"]]
    found = [i for i, name in enumerate(names) if "eye" in name and side in name]
    if not found:
        raise InputError(f"{path}: no joint of the {side} eye among {', '.join(names)}")
    return arrays["template_joint_positions"][found[0]].astype(np.float64)


def _groups(arrays: dict[str, Array], count: int) -> dict[str, Array]:
    """Vertex indices of each named group."""
    weights, names = arrays.get("vertex_groups"), arrays.get("vertex_group_names")
    if weights is None or names is None or weights.shape != (len(names), count):
        return {}
    return {str(n): np.flatnonzero(w > 0.5) for n, w in zip(names, weights, strict=True)}
