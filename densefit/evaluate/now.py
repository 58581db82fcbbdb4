"""The NoW benchmark (Sanyal et al., "Learning to Regress 3D Face Shape and Expression from an
Image without 3D Supervision", CVPR 2019) as its published evaluation does it.

Scan and prediction are brought together by seven landmarks (a similarity), the scan is cropped to a
sphere about the face, the alignment is refined on the scan-to-mesh distance over the cropped
vertices (scale, rotation, translation), and the unsigned distances of all scans are pooled. The
metrical variant keeps the prediction's own size throughout.

    FOLDER/imagepathsvalidation.txt            .../SUBJECT/CHALLENGE/IMAGE.jpg, one a line
    FOLDER/scans/SUBJECT/*.obj                 mm
    FOLDER/scans_lmks_onlypp/SUBJECT/*.pp      seven points picked in MeshLab
    PREDICTIONS/SUBJECT/CHALLENGE/IMAGE.obj (or .ply), IMAGE.npy (or .txt): seven landmarks (7, 3)
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from densefit.errors import InputError
from densefit.evaluate.surfaces import (
    IDENTITY,
    UNITS,
    Distances,
    Similarity,
    Surface,
    check_unit,
    distances,
    procrustes,
    read_surface,
    refine,
)
from densefit.progress import warn

if TYPE_CHECKING:
    from densefit.head.model import HeadModel

Array = np.ndarray[Any, np.dtype[Any]]

LIST_FILE = "imagepathsvalidation.txt"
IBUG_POINTS = (36, 39, 42, 45, 33, 48, 54)
"""Right eye's outer and inner corner, left eye's inner and outer, nose bottom, mouth corners."""
RADIUS, RAISED = 1.4, 0.3
"""Of the crop: times half the sum of two distances; share of the way up the nose."""


@dataclass(frozen=True)
class NowOptions:
    """metrical: size counts too. unit: of the predictions (used by the metrical variant).
    challenge: only images of that one."""

    metrical: bool = False
    unit: str = "m"
    challenge: str | None = None


@dataclass(frozen=True)
class NowImage:
    """One line of the list of images."""

    subject: str
    challenge: str
    stem: str


def evaluate_now(folder: Path, predictions: Path, options: NowOptions) -> dict[str, Distances]:
    """Distances in mm by challenge, and of all images together (`all`).

    Raises:
        InputError: a folder or file of the layout is missing or damaged, nothing is predicted, or
            a prediction of the metrical variant is in another unit than `options` say.
    """
    images = read_list(folder, options.challenge)
    pooled: dict[str, list[Array]] = defaultdict(list)
    missing = []
    for image in images:
        mesh = _first(predictions / image.subject / image.challenge, image.stem, ("obj", "ply"))
        marks = _first(predictions / image.subject / image.challenge, image.stem, ("npy", "txt"))
        if mesh is None or marks is None:
            missing.append(f"{image.subject}/{image.challenge}/{image.stem}")
            continue
        scan = read_surface(_only(folder / "scans" / image.subject, "*.obj"))
        points = read_pp(_only(folder / "scans_lmks_onlypp" / image.subject, "*.pp"))
        predicted = read_surface(mesh)
        if options.metrical:
            check_unit(mesh, predicted, scan, options.unit)
        errors = scan_errors(scan, points, predicted, read_seven(marks), options)
        pooled[image.challenge].append(errors)
        pooled["all"].append(errors)
    if missing:
        warn(f"{len(missing)} of {len(images)} images without mesh and landmarks: {missing[0]} ...")
    if not pooled:
        raise InputError(
            f"{predictions}: nothing predicted; expected SUBJECT/CHALLENGE/IMAGE.obj and IMAGE.npy"
        )
    return {name: Distances(np.concatenate(parts)) for name, parts in pooled.items()}


def scan_errors(
    scan: Surface, scan_points: Array, mesh: Surface, mesh_points: Array, options: NowOptions
) -> Array:
    """Unsigned distances (N,) in mm of the cropped scan's vertices to the aligned prediction.

    Args:
        scan: mm. scan_points, mesh_points: (7, 3) in the units of their meshes.
    """
    size = UNITS[options.unit] if options.metrical else 1.0
    scaled = Similarity(size, IDENTITY.rotation, IDENTITY.translation)
    mesh, mesh_points = mesh.moved(scaled), scaled.apply(mesh_points)
    cropped = crop(scan.vertices, scan_points)
    if not len(cropped):
        raise InputError("the scan has no vertex near its landmarks; are both in millimetres?")
    start = procrustes(mesh_points, scan_points, with_scale=not options.metrical)
    pose = refine(mesh, cropped, with_scale=not options.metrical, start=start)
    return distances(mesh.moved(pose), cropped)


def crop(vertices: Array, points: Array) -> Array:
    """Vertices (N, 3) of the face: a sphere about the centre."""
    eyes = np.linalg.norm(points[0] - points[3])
    nose = np.linalg.norm((points[1] + points[2]) / 2 - points[4])
    away = np.linalg.norm(vertices - crop_centre(points), axis=1)
    return vertices[away <= RADIUS * (eyes + nose) / 2]


def crop_centre(points: Array) -> Array:
    """(3,): from the bottom of the nose 0.3 of the way to its bridge; points (7, 3)."""
    bridge = (points[1] + points[2]) / 2
    centre: Array = points[4] + RAISED * (bridge - points[4])
    return centre


def seven_points(head: HeadModel, vertices: Array) -> Array:
    """The seven landmarks (7, 3) of a head with vertices (V, 3)."""
    return np.asarray(head.landmarks(vertices)[head.ibug68[list(IBUG_POINTS)]])


def read_list(folder: Path, challenge: str | None = None) -> list[NowImage]:
    """The images of FOLDER's list."""
    path = folder / LIST_FILE
    if not path.is_file():
        raise InputError(f"{path}: missing; FOLDER must be the unpacked NoW validation set")
    out = []
    for line in path.read_text(encoding="utf-8").split():
        parts = line.strip().split("/")
        if len(parts) < 3:
            raise InputError(f"{path}: '{line}' is not .../SUBJECT/CHALLENGE/IMAGE")
        if challenge in (None, parts[-2]):
            out.append(NowImage(parts[-3], parts[-2], parts[-1].rsplit(".", 1)[0]))
    if not out:
        raise InputError(f"{path}: no image of challenge '{challenge}'")
    return out


def read_pp(path: Path) -> Array:
    """Seven points (7, 3) of a MeshLab .pp file, in file order."""
    points = []
    for tag in re.findall(r"<point\b[^>]*>", path.read_text(encoding="utf-8", errors="replace")):
        values = {k: re.search(rf'\b{k}\s*=\s*"([^"]+)"', tag) for k in "xyz"}
        if all(values.values()):
            points.append([float(values[k].group(1)) for k in "xyz"])  # type: ignore[union-attr]
    return _seven(path, np.array(points, float))


def read_seven(path: Path) -> Array:
    """Seven landmarks (7, 3) of a prediction, .npy or text."""
    try:
        points = np.load(path, allow_pickle=False) if path.suffix == ".npy" else np.loadtxt(path)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({error})") from error
    return _seven(path, np.asarray(points, float))


def _seven(path: Path, points: Array) -> Array:
    if points.shape != (7, 3) or not np.isfinite(points).all():
        raise InputError(f"{path}: {points.shape} numbers, expected seven points of three")
    return points


def _first(folder: Path, stem: str, endings: tuple[str, ...]) -> Path | None:
    return next((p for e in endings if (p := folder / f"{stem}.{e}").is_file()), None)


def _only(folder: Path, pattern: str) -> Path:
    found = sorted(folder.glob(pattern))
    if not found:
        raise InputError(f"{folder / pattern}: missing; FOLDER must be the unpacked NoW set")
    return found[0]
