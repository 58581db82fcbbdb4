"""Colours come from where the cameras saw them, and from nowhere else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from calibration import Rig, write_rig
from densefit.capture import MasterTimeline, load_take
from densefit.errors import InputError
from densefit.export import texture
from densefit.export.glb import write_glb
from densefit.export.materials import material_of
from densefit.export.mesh_sequence import write_obj
from densefit.export.scene import ExportOptions, ExportScene, frame_vertices, load_scene
from densefit.footage import write_footage
from densefit.head.model import HeadModel, load_head
from densefit.landmarks.predictor import PredictOptions
from tests.export.gltf_player import GltfPlayer
from tests.export.rig_fixture import camera
from tests.toy_fit import toy_head, write_toy_fit

SIZE = 64


@pytest.fixture(scope="module")
def head() -> HeadModel:
    """Skin alone: three of four triangles; the rest are teeth, whose colour is the material's."""
    from dataclasses import replace

    plain = toy_head()
    parts = np.zeros(len(plain.triangles), np.uint8)
    parts[::4] = plain.part_names.index("teeth")
    return replace(plain, triangle_part=parts)


@pytest.fixture
def scene(tmp_path: Path, head: HeadModel, monkeypatch) -> ExportScene:
    """One photo whose red grows to the right and whose green grows downwards."""
    import cv2

    monkeypatch.setattr(texture, "SIZE", SIZE)
    out = tmp_path / "out"
    out.mkdir()
    still = np.zeros((1, 3))
    stds = {"expression": (52,), "rotation": (3,), "translation": (3,), "joints": (4, 3)}
    write_toy_fit(
        out,
        head,
        expression=np.zeros((1, 52)),
        rotation=still + [np.pi, 0, 0],
        translation=still + [0, 0, 0.7],
        joints=np.zeros((1, 4, 3)),
        time=np.zeros(1),
        valid=np.ones(1, bool),
        residual_px=np.ones((1, 2)),
        **{f"{name}_std": np.zeros((1, *shape)) for name, shape in stds.items()},
    )
    write_rig(out / "rig.yaml", Rig({"left": camera("left", 0.2)}, None))
    row, column = np.mgrid[:480, :640]
    image = np.stack([column * 255 / 640, row * 255 / 480, 0 * row + 40], -1).round()
    cv2.imwrite(str(out / "left.png"), image.astype(np.uint8)[..., ::-1])
    (out / "take.yaml").write_text("rig: rig.yaml\ncameras: {left: left.png}\n")
    timeline = MasterTimeline(np.zeros(1), np.zeros((1, 1), np.int64), ("left",))
    take = load_take([out / "take.yaml"])
    write_footage(out, take, timeline, {"left": np.zeros(1)}, PredictOptions())
    return load_scene(out, head, ExportOptions(texture=True))


def test_texels_have_the_colour_of_their_pixel(scene: ExportScene):
    colours = scene.colour_map.astype(float)
    texels = texture.skin_texels(scene)
    points = texels.at(frame_vertices(scene.fit, scene.head)[0].astype(np.float64))
    assert scene.rig is not None
    left = scene.rig.cameras["left"]
    pixels = left.project(points)
    towards = np.linalg.inv(left.T_camera_world)[:3, 3] - points
    # The egg is convex: what faces the camera is seen.
    outward = points - [0, 0, 0.7]
    cosine = (outward * towards).sum(1)
    cosine /= np.linalg.norm(outward, axis=1) * np.linalg.norm(towards, axis=1)
    shown = colours[texels.row, texels.column]
    expected = np.column_stack([pixels * [255 / 640, 255 / 480], np.full(len(pixels), 40.0)])
    facing = cosine > 0.75  # seen well: at flatter angles colours from around are mixed in
    assert facing.sum() > 150
    # Half a level from rounding twice.
    assert np.percentile(np.abs(shown - expected)[facing], 95) < 2
    # What is turned away cannot have the colour of the pixel behind which it lies.
    hidden = cosine < -0.6
    assert np.median(np.abs(shown - expected)[hidden][:, :2].max(axis=1)) > 5


def test_other_parts_keep_their_material(scene: ExportScene):
    (_, teeth), *_ = [item for item in texture._flat_parts(scene) if item[0] == "teeth"]
    skin = texture.skin_texels(scene)
    taken = set(zip(skin.row.tolist(), skin.column.tolist(), strict=True))
    own = [
        place
        for place in zip(teeth.row.tolist(), teeth.column.tolist(), strict=True)
        if place not in taken
    ]
    expected = 255 * np.power(material_of("teeth").rgb, 1 / 2.2)
    assert own and all(np.abs(scene.colour_map[place] - expected).max() <= 1 for place in own)


def test_glb_and_obj_carry_it(scene: ExportScene, tmp_path: Path):
    import cv2

    player = GltfPlayer(write_glb(scene, tmp_path)[0])
    materials = {m["name"]: m["pbrMetallicRoughness"] for m in player.json["materials"]}
    assert "baseColorTexture" in materials["skin"]
    assert "baseColorTexture" not in materials["teeth"]
    view = player.json["bufferViews"][player.json["images"][0]["bufferView"]]
    start = view["byteOffset"]
    data = np.frombuffer(player._binary[start : start + view["byteLength"]], np.uint8)
    assert np.array_equal(cv2.imdecode(data, 1)[..., ::-1], scene.colour_map)
    files = {path.name for path in write_obj(scene, tmp_path)}
    assert {"head.mtl", "head.png", "neutral.obj"} <= files
    assert np.array_equal(cv2.imread(str(tmp_path / "head.png"))[..., ::-1], scene.colour_map)


def test_obj_of_the_shipped_head_has_a_material_for_each_part(tmp_path: Path, monkeypatch):
    """Its teeth and gums have no place in the colour map, and its lashes are translucent."""
    shipped = load_head()
    write_toy_fit(tmp_path, shipped)
    scene = load_scene(tmp_path, shipped, ExportOptions(texture=True, frames="0:1"))
    monkeypatch.setattr(texture, "bake_texture", lambda _: np.zeros((4, 4, 3), np.uint8))
    path = next(p for p in write_obj(scene, tmp_path) if p.name == "frame_000000.obj")
    library = (tmp_path / "head.mtl").read_text()
    materials: dict[str, dict[str, list[str]]] = {}
    for key, *values in map(str.split, filter(None, library.splitlines())):
        if key == "newmtl":
            own = materials[values[0]] = {}
        own[key] = values
    fields = [line.split() for line in path.read_text().splitlines() if line]
    assert fields[0] == ["mtllib", "head.mtl"]
    uv = np.array([f[1:3] for f in fields if f[0] == "vt"], float)
    used, faces, textured = "", [], []
    for key, *values in fields:
        if key == "usemtl":
            used = values[0]
        elif key == "f":
            corners = np.array([corner.split("/")[:2] for corner in values], int) - 1
            faces.append((used, *corners[:, 0]))
            if "map_Kd" in materials[used]:
                textured.append(corners[:, 1])
    surface = scene.surface
    names = [surface.part_names[part] for part in surface.triangle_part]
    assert faces == [(n, *t) for n, t in zip(names, surface.triangles.tolist(), strict=True)]
    assert {n for n, m in materials.items() if "map_Kd" in m} == set(texture.TEXTURED_PARTS)
    edges = np.diff(uv[np.array(textured)], axis=1)
    assert np.abs(np.linalg.det(edges)).min() > 1e-9, "a face that the map has no area for"
    assert materials["lashes"]["d"] == ["0.2"] and materials["skin"]["d"] == ["1"]
    teeth = np.power(material_of("teeth").rgb, 1 / 2.2)
    np.testing.assert_allclose(np.array(materials["teeth"]["Kd"], float), teeth, atol=1e-4)


def test_usd_points_to_it(scene: ExportScene, tmp_path: Path):
    pytest.importorskip("pxr", reason="the extra 'usd' is not installed")
    from pxr import Usd, UsdShade

    from densefit.export.usd import write_usd

    stage_path, picture = write_usd(scene, tmp_path)
    stage = Usd.Stage.Open(str(stage_path))
    shader = UsdShade.Shader(stage.GetPrimAtPath("/head/materials/skin/surface"))
    source, output, _ = shader.GetInput("diffuseColor").GetConnectedSource()
    assert output == "rgb" and source.GetInput("file").Get().path == f"./{picture.name}"
    # Shaders see nothing outside their own material.
    colour = shader.GetInput("diffuseColor")
    assert UsdShade.ConnectableAPI.CanConnect(colour, source.GetOutput("rgb"))
    reader = UsdShade.Shader(source.GetInput("st").GetConnectedSource()[0].GetPrim())
    assert reader.GetInput("varname").Get() == "st"
    assert {s.GetPrim().GetParent().GetName() for s in (source, reader)} == {"skin"}
    teeth = UsdShade.Shader(stage.GetPrimAtPath("/head/materials/teeth/surface"))
    assert not teeth.GetInput("diffuseColor").HasConnectedSource()


def test_usd_finds_nothing_wrong(scene: ExportScene, tmp_path: Path):
    pytest.importorskip("pxr", reason="the extra 'usd' is not installed")
    validation = pytest.importorskip("pxr.UsdValidation")
    from pxr import Usd

    from densefit.export.usd import write_usd

    stage = Usd.Stage.Open(str(write_usd(scene, tmp_path)[0]))
    every = validation.ValidationRegistry().GetOrLoadAllValidators()
    found = validation.ValidationContext(every).Validate(stage)
    assert not [(error.GetName(), error.GetMessage()) for error in found]


def test_what_no_camera_saw_goes_over_smoothly_across_seams(scene: ExportScene):
    """Along the mesh: texels on both sides of a texture seam have one colour."""
    colours = scene.colour_map.astype(float)
    texels = texture.skin_texels(scene)
    points = texels.at(frame_vertices(scene.fit, scene.head)[0].astype(np.float64))
    seam = (points[:, 2] > 0.76) & (np.abs(points[:, 0]) < 0.012)  # u = 0 and u = 1 at the back
    left, right = texels.column < SIZE // 2, texels.column >= SIZE // 2
    shown = colours[texels.row, texels.column]
    assert (seam & left).sum() > 5 and (seam & right).sum() > 5
    for row in np.unique(texels.row[seam]):
        here = seam & (texels.row == row)
        if (here & left).any() and (here & right).any():
            gap = shown[here & left].mean(axis=0) - shown[here & right].mean(axis=0)
            assert np.abs(gap).max() < 12


def test_gaps_are_filled_smoothly():
    known = np.zeros((32, 32))
    known[4:8, :] = known[20:24, :] = 1
    picture = np.zeros((32, 32, 3))
    picture[4:8], picture[20:24] = 50, 150
    filled = texture.spread(picture, known)
    assert np.array_equal(filled[known > 0], picture[known > 0])
    assert filled.min() >= 50 and filled.max() <= 150
    assert filled[0, 0, 0] < 90 and filled[31, 31, 0] > 110 and 60 < filled[13, 16, 0] < 140


def test_recordings_are_needed(scene: ExportScene):
    (scene.out / "footage.npz").unlink()
    with pytest.raises(InputError, match="--texture needs it"):
        texture.bake_texture(scene)
