"""The Blender script: its data here, and the scene that it builds where bpy is installed."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from densefit.export.blender import write_blender
from densefit.export.scene import ExportOptions, frame_vertices, load_scene
from densefit.head.model import HeadModel
from tests.export.rig_fixture import write_toy_footage, write_toy_rig

PROBE = """
import runpy, sys, bpy, numpy as np
from bpy_extras.object_utils import world_to_camera_view
from mathutils import Vector
runpy.run_path(sys.argv[1], run_name="__main__")
scene, head, out = bpy.context.scene, bpy.data.objects["head"], {}
for frame in map(int, sys.argv[3].split(",")):
    scene.frame_set(frame)
    evaluated = head.evaluated_get(bpy.context.evaluated_depsgraph_get())
    points = [evaluated.matrix_world @ v.co for v in evaluated.data.vertices]
    out[f"vertices_{frame}"] = np.array([list(p) for p in points])
for name in ("left", "right"):
    view = world_to_camera_view(scene, bpy.data.objects[name], Vector((0.05, 0.8, 0.03)))
    background = bpy.data.objects[name].data.background_images[0]
    user = background.image_user
    out[name] = np.array([view.x, view.y, user.frame_start, user.frame_offset])
out["range"] = np.array([scene.frame_start, scene.frame_end, scene.render.fps])
np.savez(sys.argv[2], **out)
"""


def test_script_is_python_that_needs_only_blender(out: Path, head: HeadModel, tmp_path: Path):
    scene = load_scene(out, head, ExportOptions())
    text = write_blender(scene, tmp_path)[0].read_text()
    compile(text, "head.py", "exec")
    imported = {
        line.split()[1] for line in text.splitlines() if line.startswith(("import ", "from "))
    }
    allowed = {"array", "base64", "json", "sys", "zlib", "pathlib", "typing", "bpy"}
    assert imported <= allowed


@pytest.mark.skipif(importlib.util.find_spec("bpy") is None, reason="bpy is not installed")
def test_blender_shows_the_fit(out: Path, head: HeadModel, tmp_path: Path):
    rig = write_toy_rig(out)
    write_toy_footage(out)
    scene = load_scene(out, head, ExportOptions())
    script = write_blender(scene, tmp_path)[0]
    probe, result = tmp_path / "probe.py", tmp_path / "seen.npz"
    probe.write_text(PROBE)
    frames = (0, 1, 5, 8)
    numbers = ",".join(str(frame + 1) for frame in frames)
    done = subprocess.run(
        [sys.executable, str(probe), str(script), str(result), numbers],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    seen = np.load(result)
    expected = frame_vertices(scene.fit, head) @ scene.axes("z").T
    for frame in frames:
        assert np.abs(seen[f"vertices_{frame + 1}"] - expected[frame]).max() < 5e-5
    assert list(seen["range"]) == [1, 9, 25]
    world = scene.axes("z").T @ [0.05, 0.8, 0.03]
    for lag, (name, camera) in enumerate(rig.cameras.items()):
        ahead = camera.T_camera_world @ [*world, 1]
        u, v = (camera.K @ (ahead[:3] / ahead[2]))[:2] + 0.5
        # Blender has square pixels: y follows the focal length of x.
        v = (v - 235.5) * 700 / 710 + 235.5
        x, y, start, offset = seen[name]
        assert [x * camera.width, (1 - y) * camera.height] == pytest.approx([u, v], abs=0.05)
        assert (start, offset) == (1 + lag, 0)  # `right` begins one frame later
