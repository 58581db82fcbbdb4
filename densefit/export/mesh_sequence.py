"""PLY and OBJ: one file a frame through Open3D, the same vertices and triangles in every file."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from densefit.errors import InputError
from densefit.export.scene import ExportScene, iterate_vertices
from densefit.files import atomic_path, write_text
from densefit.head.model import HeadModel
from densefit.progress import progress, warn

MeshWriter = Callable[[Path, np.ndarray], None]


def write_ply(scene: ExportScene, folder: Path) -> list[Path]:
    """neutral.ply (head frame) and frame_%06d.ply (world, or `up`), metres, binary."""
    return _write_sequence(scene, folder, "ply", ply_writer(scene.head))


def write_obj(scene: ExportScene, folder: Path) -> list[Path]:
    """neutral.obj and frame_%06d.obj with texture coordinates, metres."""
    return _write_sequence(scene, folder, "obj", obj_writer(scene.head))


def ply_writer(head: HeadModel) -> MeshWriter:
    """A function (path, vertices (V, 3)) that writes one PLY whole or not at all.

    Raises (when called): InputError if Open3D cannot write there.
    """
    mesh = _open3d_mesh(head)

    def write(path: Path, vertices: np.ndarray) -> None:
        with atomic_path(path) as temporary:
            _write_with_open3d(mesh, vertices, temporary)

    return write


def obj_writer(head: HeadModel) -> MeshWriter:
    """As `ply_writer`, for OBJ.

    Open3D writes the template once; the frames repeat its text with their own vertices, because
    formatting the
    constant faces and texture coordinates takes a quarter of a second each time.
    """
    mesh = _open3d_mesh(head)
    mesh.triangle_uvs = _open3d().utility.Vector2dVector(
        head.uv[head.uv_triangles.reshape(-1)].astype(np.float64)
    )
    with tempfile.TemporaryDirectory(prefix="densefit-") as folder:
        template = Path(folder) / "head.obj"
        _write_with_open3d(mesh, head.template, template)
        lines = template.read_text(encoding="utf-8").splitlines()
    # The material file would hold nothing, and is not kept.
    constant = [line for line in lines if not line.startswith(("v ", "mtllib ", "usemtl ", "# "))]
    ending = "\n".join(constant) + "\n"

    def write(path: Path, vertices: np.ndarray) -> None:
        beginning = ("v %.6f %.6f %.6f\n" * len(vertices)) % tuple(vertices.reshape(-1).tolist())
        write_text(path, beginning + ending)

    return write


def _open3d() -> Any:
    """Open3D, imported late because it takes seconds."""
    import open3d

    return open3d


def _open3d_mesh(head: HeadModel) -> Any:
    open3d = _open3d()
    mesh = open3d.geometry.TriangleMesh()
    mesh.triangles = open3d.utility.Vector3iVector(head.triangles.astype(np.int32))
    return mesh


def _write_with_open3d(mesh: Any, vertices: np.ndarray, path: Path) -> None:
    open3d = _open3d()
    mesh.vertices = open3d.utility.Vector3dVector(np.asarray(vertices, np.float64))
    if not open3d.io.write_triangle_mesh(path, mesh, write_vertex_normals=False):
        raise InputError(f"{path.parent}: {path.suffix} could not be written; is the disk full?")


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
