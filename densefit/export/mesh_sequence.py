"""PLY and OBJ: one file a frame through Open3D, the same vertices and triangles in every file."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from densefit.errors import InputError
from densefit.export.materials import TEXTURED_PARTS, display_colour, material_of
from densefit.export.mesh_arrays import vertex_normals
from densefit.export.scene import ExportScene
from densefit.export.surface import Surface
from densefit.export.texture import write_texture
from densefit.files import atomic_path, write_text
from densefit.progress import progress, warn

MeshWriter = Callable[[Path, np.ndarray], None]


def write_ply(scene: ExportScene, folder: Path) -> list[Path]:
    """neutral.ply (head frame) and frame_%06d.ply (world, or `up`), binary, with normals."""
    return _write_sequence(scene, folder, "ply", ply_writer(scene.surface))


def write_obj(scene: ExportScene, folder: Path) -> list[Path]:
    """neutral.obj and frame_%06d.obj with texture coordinates and normals.

    With `texture` also head.png and head.mtl, which all of them use: one material a part.
    """
    surface = scene.surface
    if not scene.options.texture:
        return _write_sequence(scene, folder, "obj", obj_writer(surface))
    colours = write_texture(scene, folder / "head.png")
    library = folder / "head.mtl"
    write_text(library, _material_library(surface, colours.name))
    write = obj_writer(surface, library.name)
    return [*_write_sequence(scene, folder, "obj", write), library, colours]


def _material_library(surface: Surface, colours: str) -> str:
    """The text of head.mtl.

    MTL names no colour space; most programs show Kd as it is, so colours are sRGB like those of the
    picture `colours`.
    """
    text = ""
    for part in (surface.part_names[k] for k in np.unique(surface.triangle_part)):
        look = material_of(part)
        textured = part in TEXTURED_PARTS
        rgb = (1.0, 1.0, 1.0) if textured else tuple(display_colour(look))
        text += f"newmtl {part}\nKa 0 0 0\nKd {rgb[0]:.4f} {rgb[1]:.4f} {rgb[2]:.4f}\nKs 0 0 0\n"
        text += f"d {look.alpha:g}\n" + (f"map_Kd {colours}\n" if textured else "") + "\n"
    return text


def ply_writer(surface: Surface) -> MeshWriter:
    """A function (path, vertices (V, 3)) that writes one PLY whole or not at all.

    Raises (when called): InputError if Open3D cannot write there.
    """
    mesh = _open3d_mesh(surface)

    def write(path: Path, vertices: np.ndarray) -> None:
        with atomic_path(path) as temporary:
            _write_with_open3d(mesh, vertices, temporary)

    return write


def obj_writer(surface: Surface, library: str = "") -> MeshWriter:
    """As `ply_writer`, for OBJ; `library` is an MTL file beside it that has each part's material.

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
        _write_with_open3d(mesh, np.zeros((surface.n_vertices, 3)), template)
        lines = template.read_text(encoding="utf-8").splitlines()
    # Open3D's material file would hold nothing, and is not kept.
    changing = ("v ", "vn ", "mtllib ", "usemtl ", "# ")
    constant = [line for line in lines if not line.startswith(changing)]
    ending = "\n".join(_elements(constant, surface, named=bool(library))) + "\n"
    beginning = f"mtllib {library}\n" if library else ""

    def write(path: Path, vertices: np.ndarray) -> None:
        normals = vertex_normals(vertices, triangles)
        points = ("v %.6f %.6f %.6f\n" * len(vertices)) % tuple(vertices.reshape(-1).tolist())
        points += ("vn %.4f %.4f %.4f\n" * len(normals)) % tuple(normals.reshape(-1).tolist())
        write_text(path, beginning + points + ending)

    return write


def _elements(lines: list[str], surface: Surface, named: bool) -> list[str]:
    """Texture coordinates and faces (`lines`), so that every vertex belongs to an element.

    Blender drops vertices that belong to none, which would renumber the others. Those that no
    triangle has get a line from themselves to themselves, which nobody sees (one of a single
    number is no OBJ, and Open3D refuses it). The lines are a group of their own, because three.js
    takes a whole group for lines as soon as it has one.

    named: write `usemtl` before each run of faces of one part.
    """
    first = next(number for number, line in enumerate(lines) if line.startswith("f "))
    before, faces = lines[:first], lines[first:]
    if named:
        faces = _with_materials(faces, surface)
    unused = np.setdiff1d(np.arange(surface.n_vertices), surface.triangles)
    if not len(unused):
        return before + faces
    return [*before, "g head", *faces, "g unused", *(f"l {v} {v}" for v in unused + 1)]


def _with_materials(faces: list[str], surface: Surface) -> list[str]:
    parts = surface.triangle_part
    changes = np.flatnonzero(np.diff(parts.astype(int), prepend=-1))
    named = []
    for start, end in pairwise([*changes.tolist(), len(parts)]):
        named.append(f"usemtl {surface.part_names[parts[start]]}")
        named += faces[start:end]
    return named


def _open3d() -> Any:
    """Open3D, imported late because it takes seconds."""
    import open3d

    return open3d


def _open3d_mesh(surface: Surface) -> Any:
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
