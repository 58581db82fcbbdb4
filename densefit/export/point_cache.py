"""PC2 point cache: the vertices of every frame in one file, for 3ds Max, Blender, Houdini, Maya."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

from densefit.export.mesh_sequence import obj_writer
from densefit.export.scene import ExportScene
from densefit.files import atomic_path
from densefit.progress import progress, warn

HEADER = "<12siiffi"


def write_pc2(scene: ExportScene, folder: Path) -> list[Path]:
    """head.pc2 and head.obj, the mesh that it moves.

    Header: `POINTCACHE2`, version 1, points, first frame, sampling step, samples; then float32
    x, y, z. A cache has no gaps: frames without a head repeat the last one that has one (the first,
    before it).
    """
    count, frames = scene.surface.n_vertices, scene.frames
    path = folder / "head.pc2"
    first = next(scene.meshes(scene.posed_frames[:1]))[1][0]
    held = first
    header = struct.pack(HEADER, b"POINTCACHE2\0", 1, count, float(frames[0]), 1.0, len(frames))
    with (
        atomic_path(path) as temporary,
        temporary.open("wb") as file,
        progress(len(frames), "export pc2", unit="frames") as bar,
    ):
        file.write(header)
        for numbers, vertices in scene.meshes(frames):
            for mesh in vertices:
                held = mesh if np.isfinite(mesh[0, 0]) else held
                file.write(np.ascontiguousarray(held, "<f4").tobytes())
            bar.advance(len(numbers))
    repeated = len(frames) - len(scene.posed_frames)
    if repeated:
        warn(f"{path}: {repeated} of {len(frames)} frames have no head and repeat another")
    mesh_path = folder / "head.obj"
    obj_writer(scene.surface)(mesh_path, first)
    return [path, mesh_path]
