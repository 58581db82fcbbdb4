"""Reads ICT-FaceKit (MIT): the light archive, or the folder of OBJ files it is published as."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from densefit.errors import InputError
from densefit.files import read_npz
from densefit.head.build.ict import by_arkit_name
from densefit.head.foreign.convert import ForeignHead

Array = np.ndarray[Any, np.dtype[Any]]

LIGHT = "ict_light_f16.npz"
VERTICES = 26719
# Vertex ranges of ICT-FaceKit's topology (its README); sockets, tear film and lashes stay out, and
# so does what lies behind the cornea, which is not seen through here.
SKIN, MOUTH, GUMS, TEETH = (
    slice(0, 11248), slice(11248, 13294), slice(14062, 17039), slice(17039, 21451),
)  # fmt: skip
EYES = (slice(21451, 22221), slice(23021, 23791))
SCLERAS = (slice(22221, 23021), slice(23791, 24591))


def read(folder: Path) -> ForeignHead:
    """Read a folder with `ict_light_f16.npz` (or FaceXModel/*.obj) and vertex_indices.json.

    Raises:
        InputError: files are missing, or are of another version of the topology.
    """
    folder = Path(folder)
    if (folder / LIGHT).is_file():
        arrays = read_npz(folder / LIGHT)
    else:
        arrays = _read_objects(folder)
    if len(arrays["neutral"]) != VERTICES:
        raise InputError(
            f"{folder}: {len(arrays['neutral'])} vertices; this reader knows ICT-FaceKit's "
            f"topology of {VERTICES} vertices only"
        )
    used, triangles = _kept(arrays["triangles"].astype(np.int64))
    index = np.full(VERTICES, -1)
    index[used] = np.arange(len(used))

    def span(part: slice) -> Array:
        return index[part][index[part] >= 0]

    vertices = arrays["neutral"].astype(np.float64)
    centres = np.stack([_sphere_centre(vertices[part]) for part in SCLERAS])
    landmarks = _landmarks(folder)
    return ForeignHead(
        name="ict-facekit",
        vertices=vertices[used],
        triangles=index[triangles],
        identity=arrays["identity"].astype(np.float32)[:, used],
        eyes=(span(EYES[0]), span(EYES[1])),
        eye_centres=centres,
        expression=by_arkit_name(arrays["expression_names"], arrays["expression"][:, used]),
        parts={"mouth": span(MOUTH), "gums": span(GUMS), "teeth": span(TEETH)},
        landmarks=None if landmarks is None else index[landmarks],
    )


def _kept(triangles: Array) -> tuple[Array, Array]:
    """Vertices and triangles that are imported."""
    keep = np.zeros(VERTICES, bool)
    for part in (SKIN, MOUTH, GUMS, TEETH, *EYES):
        keep[part] = True
    kept = triangles[keep[triangles].all(1)]
    return np.unique(kept), kept


def _sphere_centre(points: Array) -> Array:
    """Centre of the least-squares sphere."""
    system = np.column_stack([2 * points, np.ones(len(points))])
    return np.linalg.lstsq(system, (points**2).sum(1), rcond=None)[0][:3]


def _landmarks(folder: Path) -> Array | None:
    path = next((p for p in folder.rglob("vertex_indices.json")), None)
    if path is None:
        return None
    return np.array(json.loads(path.read_text())["idx_to_landmark_verts"])


def _read_objects(folder: Path) -> dict[str, Array]:
    """The published OBJ files: generic_neutral_mesh, identity000 ... and one a shape."""
    base = next((p for p in folder.rglob("generic_neutral_mesh.obj")), None)
    if base is None:
        raise InputError(
            f"{folder}: neither {LIGHT} nor generic_neutral_mesh.obj; give ICT-FaceKit's folder"
        )
    neutral, triangles = _read_obj(base)
    identity, shapes, names = [], [], []
    for path in sorted(base.parent.glob("*.obj")):
        if path == base:
            continue
        delta = _read_obj(path)[0] - neutral
        if path.stem.startswith("identity"):
            identity.append(delta)
        else:
            shapes.append(delta)
            names.append(path.stem)
    if not identity:
        raise InputError(f"{base.parent}: no identity000.obj; the folder is not complete")
    return {
        "neutral": neutral, "triangles": triangles, "identity": np.array(identity),
        "expression": np.array(shapes).reshape(len(shapes), -1, 3),
        "expression_names": np.array(names),
    }  # fmt: skip


def _read_obj(path: Path) -> tuple[Array, Array]:
    vertices, faces = [], []
    for line in path.read_text().splitlines():
        if line.startswith("v "):
            vertices.append([float(x) for x in line.split()[1:4]])
        elif line.startswith("f "):
            corners = [int(c.split("/")[0]) - 1 for c in line.split()[1:]]
            faces += [(corners[0], a, b) for a, b in zip(corners[1:], corners[2:], strict=False)]
    return np.array(vertices), np.array(faces)
