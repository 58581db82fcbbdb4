"""The Blender script: its data here, and the scene that it builds where bpy is installed."""

from __future__ import annotations

import base64
import importlib.util
import json
import subprocess
import sys
import zlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from densefit.export import blender
from densefit.export.blender import write_blender
from densefit.export.scene import ExportOptions, frame_vertices, load_scene
from densefit.footage import read_footage
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
    graph = bpy.context.evaluated_depsgraph_get()
    evaluated = head.evaluated_get(graph)
    points = [evaluated.matrix_world @ v.co for v in evaluated.data.vertices]
    out[f"vertices_{frame}"] = np.array([list(p) for p in points])
    right = bpy.data.objects["right"].evaluated_get(graph).data.background_images[0].image_user
    # What Blender's ImageUser shows: frames before the first show the first.
    out[f"picture_{frame}"] = max(0, frame - right.frame_start) + right.frame_offset
scene.frame_set(1)
point = Vector((0.05, 0.8, 0.03)) / scene.unit_settings.scale_length
for name in ("left", "right"):
    view = world_to_camera_view(scene, bpy.data.objects[name], point)
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


def run_in_blender(script: Path, frames: Sequence[int], folder: Path) -> np.lib.npyio.NpzFile:
    """What Blender shows at `frames`, counted from 0."""
    probe, result = folder / "probe.py", folder / "seen.npz"
    probe.write_text(PROBE)
    numbers = ",".join(str(frame + 1) for frame in frames)
    done = subprocess.run(
        [sys.executable, str(probe), str(script), str(result), numbers],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return np.load(result)


@pytest.mark.skipif(importlib.util.find_spec("bpy") is None, reason="bpy is not installed")
@pytest.mark.parametrize("unit, scale", [("m", 1.0), ("cm", 100.0)])
def test_blender_shows_the_fit(out: Path, head: HeadModel, tmp_path: Path, unit: str, scale: float):
    rig = write_toy_rig(out)
    write_toy_footage(out)
    scene = load_scene(out, head, ExportOptions(unit=unit))
    script = write_blender(scene, tmp_path)[0]
    frames = (0, 1, 5, 8)
    seen = run_in_blender(script, frames, tmp_path)
    expected = frame_vertices(scene.fit, head) @ scene.axes("z").T * scale
    for frame in frames:
        assert np.abs(seen[f"vertices_{frame + 1}"] - expected[frame]).max() < 5e-5 * scale
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


def read_header(script: Path) -> dict:
    """The JSON inside a written script."""
    line = next(x for x in script.read_text().splitlines() if x.startswith("DATA = "))
    raw = zlib.decompress(base64.b64decode(line.split('"')[1]))
    return json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])


def test_footage_keeps_pace_at_another_rate(out: Path, head: HeadModel, tmp_path: Path):
    """At twice the rate every picture stands for two of Blender's frames."""
    write_toy_rig(out)
    write_toy_footage(out)
    scene = load_scene(out, head, ExportOptions(fps=50, frames="1:"))
    script = write_blender(scene, tmp_path)[0]
    header = read_header(script)
    assert header["fps"] == 50 and header["range"] == [1, 15]
    for camera, lag in zip(header["cameras"], (0, 1), strict=True):
        footage = camera["footage"]
        changes = dict(footage["offsets"])
        offset = footage["offsets"][0][1]
        for frame in range(footage["frame_start"], 16):
            offset = changes.get(frame, offset)
            shown = frame - footage["frame_start"] + offset
            # Frame 1 is master frame 1; half a step later either neighbour is as near.
            assert abs(shown - (1 + (frame - 1) / 2 - lag)) <= 0.5
    if importlib.util.find_spec("bpy") is not None:
        seen = run_in_blender(script, (0, 4, 8, 14), tmp_path)
        assert [int(seen[f"picture_{f + 1}"]) for f in (0, 4, 8, 14)] == [0, 2, 4, 7]


@pytest.mark.parametrize("kind, kept", [("video", True), ("sequence", False)])
def test_footage_that_is_gone_is_a_remark(
    out: Path, head: HeadModel, tmp_path: Path, kind: str, kept: bool, monkeypatch, capsys
):
    """Pictures are not counted once they are gone; a film's path can stay for when it is back."""
    write_toy_rig(out)
    write_toy_footage(out)
    footage = read_footage(out)
    assert footage is not None
    gone = tuple(
        replace(r, path=tmp_path / "gone" / r.path.name, kind=kind) for r in footage.recordings
    )
    monkeypatch.setattr(blender, "read_footage", lambda _: replace(footage, recordings=gone))
    script = write_blender(load_scene(out, head, ExportOptions()), tmp_path)[0]
    assert all((c["footage"] is not None) == kept for c in read_header(script)["cameras"])
    errors = capsys.readouterr().err
    assert errors.count("has no background") == 2 and "gone" in errors
