"""The GLB, played from the file, shows the fit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from densefit.export.glb import write_glb
from densefit.export.orientation import world_to_up
from densefit.export.scene import ExportOptions, ExportScene, frame_vertices, load_scene
from densefit.head.model import HeadModel
from tests.export.gltf_player import GltfPlayer
from tests.export.rig_fixture import write_toy_rig

TOLERANCE = 5e-5  # m


def test_every_frame_equals_the_fit(scene: ExportScene, tmp_path):
    player = GltfPlayer(write_glb(scene, tmp_path)[0])
    expected = frame_vertices(scene.fit, scene.head) @ world_to_up("y", None).T
    count = len(scene.head.template)
    for frame in scene.posed_frames:
        shown = player.vertices(scene.fit.time[frame] - scene.fit.time[0])
        assert np.abs(shown[:count] - expected[frame]).max() < TOLERANCE
    assert len(shown) > count, "the toy head has a UV seam, so some vertices appear twice"


def test_split_vertices_follow_their_source_and_keep_their_texture(scene: ExportScene, tmp_path):
    player = GltfPlayer(write_glb(scene, tmp_path)[0])
    primitives = player.json["meshes"][0]["primitives"]
    attributes = primitives[0]["attributes"]
    positions, uv = (player.array(attributes[name]) for name in ("POSITION", "TEXCOORD_0"))
    triangles = np.concatenate([player.array(p["indices"]).reshape(-1, 3) for p in primitives])
    order = np.argsort(scene.head.triangle_part, kind="stable")
    neutral = scene.neutral()[scene.head.triangles[order]]
    assert np.abs(positions[triangles] - neutral).max() < 1e-6
    expected_uv = scene.head.uv[scene.head.uv_triangles[order]] * [1, -1] + [0, 1]
    assert np.abs(uv[triangles] - expected_uv).max() < 1e-6


def test_gap_has_no_keys_and_is_listed(scene: ExportScene, tmp_path):
    player = GltfPlayer(write_glb(scene, tmp_path)[0])
    sampler = player.json["animations"][0]["samplers"][0]
    assert len(player.array(sampler["input"])) == scene.fit.n_frames - 2
    assert player.json["asset"]["extras"]["frames_without_head"] == [3, 4]
    assert np.isfinite(player.vertices(3.4 / 25)).all()


def test_range_and_frame_rate(out: Path, head: HeadModel, tmp_path):
    """At 50 frames a second the film is as long as at 25, and shows the same heads."""
    scene = load_scene(out, head, ExportOptions(fps=50, frames="5:8"))
    player = GltfPlayer(write_glb(scene, tmp_path)[0])
    times = player.array(player.json["animations"][0]["samplers"][0]["input"])
    assert times == pytest.approx([0, 0.02, 0.04, 0.06, 0.08])
    expected = frame_vertices(scene.recorded, head, np.arange(5, 8)) @ scene.axes("y").T
    for k, vertices in enumerate(expected):
        shown = player.vertices(k / 25)[: len(vertices)]
        assert np.abs(shown - vertices).max() < TOLERANCE
    assert player.json["asset"]["extras"]["frames"] == [5, 8]


def test_unit_and_up_are_honoured_with_a_word_of_warning(
    out: Path, head: HeadModel, tmp_path, capsys: pytest.CaptureFixture[str]
):
    rig = write_toy_rig(out)
    scene = load_scene(out, head, ExportOptions(unit="cm", up="z"))
    player = GltfPlayer(write_glb(scene, tmp_path)[0])
    expected = 100 * frame_vertices(scene.fit, head) @ scene.axes("z").T
    count = len(head.template)
    for frame in scene.posed_frames:
        shown = player.vertices(scene.fit.time[frame] - scene.fit.time[0])
        assert np.abs(shown[:count] - expected[frame]).max() < 100 * TOLERANCE
    for name, camera in rig.cameras.items():
        place = player.world_matrix(player.node(f"camera_{name}"), 0.0)[:3, 3]
        centre = np.linalg.inv(camera.T_camera_world)[:3, 3]
        np.testing.assert_allclose(place, 100 * scene.axes("z") @ centre, atol=1e-3)
    said = capsys.readouterr().err
    assert "glTF means metres" in said and "glTF means y" in said


def test_independent_pictures_are_not_interpolated(scene: ExportScene, tmp_path):
    fit = replace(scene.fit, meta={**scene.fit.meta, "independent_frames": True})
    player = GltfPlayer(write_glb(replace(scene, fit=fit), tmp_path)[0])
    samplers = player.json["animations"][0]["samplers"]
    assert {s["interpolation"] for s in samplers} == {"STEP"}


def test_names_parts_and_materials(scene: ExportScene, tmp_path):
    player = GltfPlayer(write_glb(scene, tmp_path)[0])
    mesh = player.json["meshes"][0]
    assert mesh["extras"]["targetNames"] == list(scene.head.expression_names)
    names = [player.json["materials"][p["material"]]["name"] for p in mesh["primitives"]]
    assert names == list(scene.head.part_names)
    joints = player.json["skins"][0]["joints"]
    assert [player.json["nodes"][j]["name"] for j in joints] == [
        "neck",
        "head",
        "left_eye",
        "right_eye",
    ]


def test_stated_bounds_are_the_data(scene: ExportScene, tmp_path):
    player = GltfPlayer(write_glb(scene, tmp_path)[0])
    stated = [i for i, a in enumerate(player.json["accessors"]) if "min" in a]
    assert len(stated) >= 2 + 52
    for i in stated:
        array, item = player.array(i), player.json["accessors"][i]
        assert np.array_equal(np.atleast_1d(array.min(axis=0)), np.float32(item["min"]))
        assert np.array_equal(np.atleast_1d(array.max(axis=0)), np.float32(item["max"]))


def test_cameras_are_nodes_that_see_what_the_rig_sees(out: Path, head: HeadModel, tmp_path):
    rig = write_toy_rig(out)
    scene = load_scene(out, head, ExportOptions())
    player = GltfPlayer(write_glb(scene, tmp_path)[0])
    point = np.array([0.05, -0.03, 0.8])
    in_file = player.world_matrix(player.node("world"), 0.0)[:3, :3] @ point
    np.testing.assert_allclose(in_file, scene.axes("y") @ point, atol=1e-6)
    for name, camera in rig.cameras.items():
        node = player.node(f"camera_{name}")
        item = player.json["cameras"][player.json["nodes"][node]["camera"]]
        local = np.linalg.inv(player.world_matrix(node, 0.0)) @ [*in_file, 1]
        focal = camera.height / 2 / np.tan(item["perspective"]["yfov"] / 2)
        assert focal == pytest.approx(camera.K[1, 1])
        # The camera looks along -z with y up; K in extras knows the rest.
        shown = np.array(item["extras"]["K"]) @ [local[0], -local[1], -local[2]] / -local[2]
        ahead = camera.T_camera_world @ [*point, 1]
        np.testing.assert_allclose(shown, camera.K @ ahead[:3] / ahead[2], atol=0.01)
    stabilized = load_scene(out, head, ExportOptions(stabilize=True))
    still = GltfPlayer(write_glb(stabilized, tmp_path)[0])
    assert "cameras" not in still.json, "the cameras would have to move with the head"


def test_trimesh_opens_it(scene: ExportScene, tmp_path):
    trimesh = pytest.importorskip("trimesh")
    loaded = trimesh.load(write_glb(scene, tmp_path)[0])
    assert sum(len(g.faces) for g in loaded.geometry.values()) == len(scene.head.triangles)
