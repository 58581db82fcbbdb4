"""Numbers for scripts: all vertices in one npz, and the parameters as CSV."""

from __future__ import annotations

import csv
import zipfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from densefit.export.scene import ExportScene
from densefit.files import atomic_path
from densefit.head.model import JOINT_NAMES
from densefit.head.rotation import continuous_axis_angle, rotation_matrix
from densefit.progress import progress


def write_vertices_npz(scene: ExportScene, folder: Path) -> list[Path]:
    """head.npz: vertices (T, V, 3) float32, triangles, uv, names, fps and all of fit.npz.

    vertices and neutral in `unit`, everything else as in fit.npz; world axes or those of `up`.
    Frames without a head are NaN. The vertices are streamed, so that long takes need no memory.
    """
    path = folder / "head.npz"
    with (
        atomic_path(path) as temporary,
        zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED, allowZip64=True) as archive,
    ):
        for name, array in _side_arrays(scene).items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)
        _write_vertices(scene, archive)
    return [path]


def _side_arrays(scene: ExportScene) -> dict[str, np.ndarray]:
    head, surface, fit = scene.head, scene.surface, scene.fit
    per_frame = {name for name, array in fit.arrays().items() if not name.startswith("identity")}
    arrays = {n: a[scene.frames] if n in per_frame else a for n, a in fit.arrays().items()}
    return {
        **arrays,
        "frames": scene.frames,
        "fps": np.array(scene.fps),
        "unit": np.array(scene.options.unit),
        "neutral": (surface.refine(scene.neutral()) * scene.scale).astype(np.float32),
        "triangles": surface.triangles.astype(np.int32),
        "uv": surface.uv.astype(np.float32),
        "uv_triangles": surface.uv_triangles.astype(np.int32),
        "triangle_part": surface.triangle_part,
        "part_names": np.array(surface.part_names),
        "expression_names": np.array(head.expression_names),
        "joint_names": np.array(JOINT_NAMES),
        "cameras": np.array(fit.meta["cameras"]),
    }


def _write_vertices(scene: ExportScene, archive: zipfile.ZipFile) -> None:
    shape = (len(scene.frames), scene.surface.n_vertices, 3)
    header = {"descr": "<f4", "fortran_order": False, "shape": shape}
    with (
        archive.open("vertices.npy", "w", force_zip64=True) as member,
        progress(len(scene.frames), "export npz", unit="frames") as bar,
    ):
        np.lib.format.write_array_header_1_0(member, header)
        for numbers, vertices in scene.meshes(scene.frames):
            member.write(np.ascontiguousarray(vertices, "<f4").tobytes())
            bar.advance(len(numbers))


def write_csv(scene: ExportScene, folder: Path) -> list[Path]:
    """parameters.csv, one row a frame (empty cells where there is no head), and identity.csv.

    The translation is in `unit`, it and the rotation in the axes of `up`; angles in radians.
    """
    fit = scene.fit
    axes = "xyz"
    columns: dict[str, np.ndarray] = {}
    for name, array in zip(("rotation", "translation"), _placement(scene), strict=True):
        columns.update({f"{name}_{axis}": array[:, i] for i, axis in enumerate(axes)})
    for j, joint in enumerate(JOINT_NAMES):
        columns.update({f"{joint}_{axis}": fit.joints[:, j, i] for i, axis in enumerate(axes)})
    columns.update(
        {name: fit.expression[:, i] for i, name in enumerate(fit.meta["expression_names"])}
    )
    columns.update(
        {f"residual_px_{name}": fit.residual_px[:, i] for i, name in enumerate(fit.meta["cameras"])}
    )
    rows = (
        [
            int(t),
            f"{fit.time[t]:.6f}",
            int(fit.valid[t]),
            *(_cell(column[t]) for column in columns.values()),
        ]
        for t in scene.frames
    )
    identity = zip(
        range(len(fit.identity)),
        map(_cell, fit.identity),
        map(_cell, fit.identity_std),
        strict=True,
    )
    return [
        _write_table(folder / "parameters.csv", ["frame", "time", "valid", *columns], rows),
        _write_table(folder / "identity.csv", ["coefficient", "value", "std"], identity),
    ]


def _placement(scene: ExportScene) -> tuple[np.ndarray, np.ndarray]:
    """Rotation (T, 3) rad and translation (T, 3) in the axes and the unit asked for."""
    fit, turn = scene.fit, scene.export_from_world
    if scene.options.up == "world" or scene.options.stabilize and scene.options.up == "y":
        rotation = fit.rotation  # untouched: as continuous as the fit's
    else:
        rotation = np.full(fit.rotation.shape, np.nan)
        rotation[fit.posed] = continuous_axis_angle(turn @ rotation_matrix(fit.rotation[fit.posed]))
    return rotation, fit.translation @ turn.T * scene.scale


def _cell(value: float) -> str:
    return f"{value:.8g}" if np.isfinite(value) else ""


def _write_table(path: Path, header: list[str], rows: Iterable[Iterable[object]]) -> Path:
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)
    return path
