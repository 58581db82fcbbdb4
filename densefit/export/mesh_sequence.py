"""PLY and OBJ: one file a frame through Open3D, the same vertices and triangles in every file."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from densefit.errors import InputError
from densefit.export.mesh_arrays import vertex_normals
from densefit.export.scene import ExportScene
from densefit.export.texture import write_texture
from densefit.files import atomic_path, write_text
from densefit.progress import progress, warn

MeshWriter = Callable[[Path, np.ndarray], None]


class Topology(Protocol):
    """What mesh files need besides vertices: a Surface or a HeadModel."""

    @property
    def triangles(self) -> np.ndarray: ...
    @property
    def uv(self) -> np.ndarray: ...
    @property
    def uv_triangles(self) -> np.ndarray: ...


def write_ply(scene: ExportScene, folder: Path) -> list[Path]:
    """neutral.ply (head frame) and frame_%06d.ply (world, or `up`), binary, with normals."""
    return _write_sequence(scene, folder, "ply", ply_writer(scene.surface))


def write_obj(scene: ExportScene, folder: Path) -> list[Path]:
    """neutral.obj and frame_%06d.obj with texture coordinates and normals.

    With `texture` also head.png and head.mtl, which all of them use.
    """
    if not scene.options.texture:
        return _write_sequence(scene, folder, "obj", obj_writer(scene.surface))
    colours = write_texture(scene, folder / "head.png")
    material = folder / "head.mtl"
    write_text(material, "newmtl head\nKa 0 0 0\nKd 1 1 1\nKs 0 0 0\nmap_Kd head.png\n")
    write = obj_writer(scene.surface, "mtllib head.mtl\nusemtl head\n")
    return [*_write_sequence(scene, folder, "obj", write), material, colours]


def ply_writer(surface: Topology) -> MeshWriter:
    """A function (path, vertices (V, 3)) that writes one PLY whole or not at all.

    Raises (when called): InputError if Open3D cannot write there.
    """
    mesh = _open3d_mesh(surface)

    def write(path: Path, vertices: np.ndarray) -> None:
        with atomic_path(path) as temporary:
            _write_with_open3d(mesh, vertices, temporary)

    return write


def obj_writer(surface: Topology, beginning: str = "") -> MeshWriter:
    """As `ply_writer`, for OBJ; `beginning` comes first in each file.

    Open3D writes one mesh; the frames repeat its text with their own vertices and normals, because
    formatting the constant faces and texture coordinates takes a quarter of a second each time.
    """
    mesh = _open3d_mesh(surface)
    mesh.triangle_uvs = _open3d().utility.Vector2dVector(
        surface.uv[surface.uv_triangles.reshape(-1)].astype(np.float64)
    )
    triangles = surface.triangles
    with tempfile.TemporaryDirectory(prefix="densefit-") as folder:
        template = Path(folder) / "head.obj"
        _write_with_open3d(mesh, np.zeros((int(triangles.max()) + 1, 3)), template)
        lines = template.read_text(encoding="utf-8").splitlines()
    # The material file would hold nothing, and is not kept.
    changing = ("v ", "vn ", "mtllib ", "usemtl ", "# ")
    ending = "\n".join(line for line in lines if not line.startswith(changing)) + "\n"

    def write(path: Path, vertices: np.ndarray) -> None:
        normals = vertex_normals(vertices, triangles)
        points = ("v %.6f %.6f %.6f\n" * len(vertices)) % tuple(vertices.reshape(-1).tolist())
        points += ("vn %.4f %.4f %.4f\n" * len(normals)) % tuple(normals.reshape(-1).tolist())
        write_text(path, beginning + points + ending)

    return write


def _open3d() -> Any:
    """Open3D, imported late because it takes seconds."""
    import open3d

    return open3d


def _open3d_mesh(surface: Topology) -> Any:
    open3d = _open3d()
    mesh = open3d.geometry.TriangleMesh()
    mesh.triangles = open3d.utility.Vector3iVector(surface.triangles.astype(np.int32))
    return mesh


def _write_with_open3d(mesh: Any, vertices: np.ndarray, path: Path) -> None:
    open3d = _open3d()
    mesh.vertices = open3d.utility.Vector3dVector(np.asarray(vertices, np.float64))
    mesh.compute_vertex_normals()
    mesh.triangle_normals = open3d.utility.Vector3dVector()  # files hold those of the vertices
    if not open3d.io.write_triangle_mesh(path, mesh):
        raise InputError(f"{path.parent}: {path.suffix} could not be written; is the disk full?")


def _write_sequence(scene: ExportScene, folder: Path, suffix: str, write: MeshWriter) -> list[Path]:
    for stale in folder.glob(f"frame_*.{suffix}"):  # of an earlier export with more frames
        stale.unlink()
    files = [folder / f"neutral.{suffix}"]
    write(files[0], scene.surface.refine(scene.neutral()) * scene.scale)
    frames = scene.posed_frames
    with progress(len(frames), f"export {suffix}", unit="frames") as bar:
        for numbers, vertices in scene.meshes(frames):
            for number, mesh in zip(numbers, vertices, strict=True):
                files.append(folder / f"frame_{number:06d}.{suffix}")
                write(files[-1], mesh)
            bar.advance(len(numbers))
    skipped = len(scene.frames) - len(frames)
    if skipped:
        warn(f"{folder}: {skipped} of {len(scene.frames)} frames have no head and were left out")
    return files
