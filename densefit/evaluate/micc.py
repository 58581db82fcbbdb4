"""MICC Florence (Bagdanov et al., "The Florence 2D/3D hybrid face dataset", 2011), as in Genova et
al. 2018 and most papers since: the scan is cropped to 95 mm about the tip of the nose, the
prediction is aligned by ICP with isotropic scale, and the distances are point to plane.

    FOLDER/SUBJECT/Model/frontal1/obj/*.obj         mm; frontal2 where there is no frontal1
    FOLDER/SUBJECT/nose.txt                         optional: x y z of the tip of the scan's nose
    PREDICTIONS/SUBJECT/CONDITION.obj (or .ply)     CONDITION: cooperative, indoor, outdoor

Without nose.txt the tip is the scan's foremost vertex (largest z), as the scans face +z. Of the
prediction it is the foremost vertex too, unless PREDICTIONS/SUBJECT/CONDITION.nose.txt says else.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from densefit.errors import InputError
from densefit.evaluate.surfaces import (
    UNITS,
    Distances,
    Similarity,
    Surface,
    check_unit,
    nearest,
    read_surface,
    refine,
)

Array = np.ndarray[Any, np.dtype[Any]]

CROP = 95.0
"""mm about the tip of the nose."""
CONDITIONS = ("cooperative", "indoor", "outdoor")


def evaluate_micc(
    folder: Path, predictions: Path, metrical: bool = False, unit: str = "m"
) -> dict[str, Distances]:
    """Point-to-plane distances in mm by condition: the mean of each scan's, pooled over subjects.

    Args:
        metrical: keep the predictions' size.
        unit: m, cm or mm, of the predictions (used with `metrical`).
    Raises:
        InputError: the layout is not as above, nothing is predicted, or with `metrical` a
            prediction is in another unit than `unit`.
    """
    errors: dict[str, list[float]] = defaultdict(list)
    subjects = sorted(p for p in folder.iterdir() if p.is_dir()) if folder.is_dir() else []
    if not subjects:
        raise InputError(f"{folder}: no SUBJECT folders; give the unpacked MICC Florence set")
    for subject in subjects:
        found = [(c, _mesh(predictions / subject.name, c)) for c in CONDITIONS]
        if not any(path for _, path in found):
            continue
        scan = read_surface(_scan(subject))
        tip = _nose(subject / "nose.txt", scan)
        for condition, path in found:
            if path is not None:
                mesh = read_surface(path)
                nose = _nose(path.with_suffix(".nose.txt"), mesh)
                if metrical:
                    check_unit(path, mesh, scan, unit)
                    size = Similarity(UNITS[unit], np.eye(3), np.zeros(3))
                    mesh, nose = mesh.moved(size), size.apply(nose)
                values = scan_errors(scan, tip, mesh, nose, metrical)
                errors[condition].append(float(values.mean()))
    if not errors:
        raise InputError(f"{predictions}: nothing predicted; expected SUBJECT/CONDITION.obj")
    return {name: Distances(np.array(values)) for name, values in errors.items()}


def scan_errors(
    scan: Surface, tip: Array, mesh: Surface, mesh_tip: Array, metrical: bool = False
) -> Array:
    """Point-to-plane distances (N,) in mm of the cropped scan's vertices to the prediction.

    Args:
        scan: mm; mesh: with `metrical` mm, else any unit.
        tip, mesh_tip: (3,) tips of the noses, where the alignment starts.
    """
    points = scan.vertices[np.linalg.norm(scan.vertices - tip, axis=1) <= CROP]
    reach = np.linalg.norm(points - tip, axis=1).mean()
    scale = 1.0
    if not metrical:
        # A head in any unit: its vertices as near the nose as the crop's share of a head.
        away = np.sort(np.linalg.norm(mesh.vertices - mesh_tip, axis=1))
        whole = np.linalg.norm(scan.vertices - tip, axis=1).max()
        if away[-1] < 0.1 * whole or away[-1] > 10 * whole:
            scale = float(reach / away[: max(1, len(away) // 2)].mean())
    start = Similarity(scale, np.eye(3), tip - scale * mesh_tip)
    pose = refine(mesh, points, with_scale=not metrical, start=start)
    foot, normal = nearest(mesh.moved(pose), points)
    return np.abs(((points - foot) * normal).sum(axis=1))


def _scan(subject: Path) -> Path:
    for model in ("frontal1", "frontal2"):
        found = sorted((subject / "Model" / model / "obj").glob("*.obj"))
        if found:
            return found[0]
    raise InputError(f"{subject / 'Model/frontal1/obj'}: no .obj scan there")


def _mesh(folder: Path, condition: str) -> Path | None:
    return next((p for e in ("obj", "ply") if (p := folder / f"{condition}.{e}").is_file()), None)


def _nose(path: Path, surface: Surface) -> Array:
    if not path.is_file():
        return np.asarray(surface.vertices[surface.vertices[:, 2].argmax()])
    try:
        tip = np.loadtxt(path).reshape(-1)
    except ValueError as error:
        raise InputError(f"{path}: not three numbers ({error})") from error
    if tip.shape != (3,):
        raise InputError(f"{path}: {tip.size} numbers, expected x y z")
    return np.asarray(tip)
