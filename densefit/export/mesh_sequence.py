"""PLY and OBJ: one file a frame through Open3D, the same vertices and triangles in every file."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from densefit.errors import InputError
from densefit.export.scene import ExportScene, iterate_vertices
from densefit.head.model import HeadModel
from densefit.progress import progress, warn

MeshWriter = Callable[[Path, np.ndarray], None]


def write_ply(scene: ExportScene, folder: Path) -> list[Path]:
    """neutral.ply (head frame) and frame_%06d.ply (world, or `up`), metres, binary."""
    return _write_sequence(scene, folder, "ply", mesh_writer(scene.head, with_uv=False))


def write_obj(scene: ExportScene, folder: Path) -> list[Path]:
    """neutral.obj and frame_%06d.obj with texture coordinates, metres."""
    return _write_sequence(scene, folder, "obj", mesh_writer(scene.head, with_uv=True))


def mesh_writer(head: HeadModel, with_uv: bool) -> MeshWriter:
    """A function (path, vertices (V, 3)) that writes one mesh whole or not at all.

    Raises (when called): InputError if Open3D cannot write there.
    """
    import open3d

    mesh = open3d.geometry.TriangleMesh()
    mesh.triangles = open3d.utility.Vector3iVector(head.triangles.astype(np.int32))
    if with_uv:
        corners = head.uv[head.uv_triangles.reshape(-1)].astype(np.float64)
        mesh.triangle_uvs = open3d.utility.Vector2dVector(corners)

    def write(path: Path, vertices: np.ndarray) -> None:
        mesh.vertices = open3d.utility.Vector3dVector(np.asarray(vertices, np.float64))
        _write_whole(mesh, path)

    return write


def _write_whole(mesh: Any, path: Path) -> None:
    """Open3D writes into a folder of its own, because OBJ puts the file's name into the file."""
    import open3d

    with tempfile.TemporaryDirectory(prefix=".writing-", dir=path.parent) as folder:
        temporary = Path(folder) / path.name
        if not open3d.io.write_triangle_mesh(temporary, mesh, write_vertex_normals=False):
            raise InputError(f"{path}: could not be written; is the disk full?")
        os.replace(temporary, path)


def _write_sequence(scene: ExportScene, folder: Path, suffix: str, write: MeshWriter) -> list[Path]:
    for stale in folder.glob(f"frame_*.{suffix}"):  # of an earlier export with more frames
        stale.unlink()
    files = [folder / f"neutral.{suffix}"]
    write(files[0], scene.neutral())
    rotation = scene.export_from_world
    frames = scene.posed_frames
    with progress(len(frames), f"export {suffix}", unit="frames") as bar:
        for numbers, vertices in iterate_vertices(scene.fit, scene.head, frames):
            for number, mesh in zip(numbers, vertices @ rotation.T, strict=True):
                files.append(folder / f"frame_{number:06d}.{suffix}")
                write(files[-1], mesh)
            bar.advance(len(numbers))
    skipped = len(scene.frames) - len(frames)
    if skipped:
        warn(f"{folder}: {skipped} of {len(scene.frames)} frames have no head and were left out")
    return files
