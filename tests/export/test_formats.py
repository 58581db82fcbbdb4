"""ply, obj, npz and csv hold the fit; the stage refuses what it cannot do."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from densefit.errors import InputError, UsageError
from densefit.export import formats, texture
from densefit.export.mesh_sequence import obj_writer, write_obj, write_ply
from densefit.export.scene import ExportOptions, ExportScene, frame_vertices, parse_frames
from densefit.export.tables import write_csv, write_vertices_npz
from tests.toy_fit import write_toy_fit


@pytest.fixture(autouse=True)
def _toy_model(monkeypatch, head):
    monkeypatch.setattr(formats, "open_head", lambda model: head)


def read_ply(path: Path) -> tuple[np.ndarray, np.ndarray]:
    open3d = pytest.importorskip("open3d")
    mesh = open3d.io.read_triangle_mesh(str(path))
    return np.asarray(mesh.vertices), np.asarray(mesh.triangles)


def test_ply_holds_each_frame_with_constant_topology(scene: ExportScene, tmp_path):
    folder = tmp_path / "ply"
    folder.mkdir()
    (folder / "frame_000099.ply").write_text("of an earlier, longer export")
    files = write_ply(scene, folder)
    names = sorted(p.name for p in folder.iterdir())
    assert names == [*(f"frame_{i:06d}.ply" for i in (0, 1, 2, 5, 6, 7, 8)), "neutral.ply"]
    assert sorted(p.name for p in files) == names
    expected = frame_vertices(scene.fit, scene.head)
    for frame in scene.posed_frames:
        vertices, triangles = read_ply(folder / f"frame_{frame:06d}.ply")
        assert np.abs(vertices - expected[frame]).max() < 1e-7
        assert np.array_equal(triangles, scene.head.triangles)
    vertices, _ = read_ply(folder / "neutral.ply")
    assert np.abs(vertices - scene.neutral()).max() < 1e-7


def test_ply_turned_up(scene: ExportScene, tmp_path):
    """Without a rig, up is the camera's -y and the camera looks along +z: y-up turns about x."""
    write_ply(replace(scene, options=ExportOptions(up="y")), tmp_path)
    vertices, _ = read_ply(tmp_path / "frame_000000.ply")
    expected = frame_vertices(scene.fit, scene.head, np.array([0]))[0] * [1, -1, -1]
    assert np.abs(vertices - expected).max() < 1e-6


def test_obj_has_the_same_vertices_and_texture_coordinates(scene: ExportScene, tmp_path):
    write_obj(scene, tmp_path)
    lines = (tmp_path / "frame_000005.obj").read_text().splitlines()
    fields = [line.split() for line in lines]
    positions = np.array([f[1:4] for f in fields if f and f[0] == "v"], float)
    uv = np.array([f[1:3] for f in fields if f and f[0] == "vt"], float)
    corners = np.array(
        [[c.split("/")[:2] for c in f[1:]] for f in fields if f and f[0] == "f"], int
    )
    expected = frame_vertices(scene.fit, scene.head, np.array([5]))[0]
    assert np.abs(positions - expected).max() < 1e-5
    assert np.array_equal(corners[..., 0] - 1, scene.head.triangles)
    assert np.abs(uv[corners[..., 1] - 1] - scene.head.uv[scene.head.uv_triangles]).max() < 1e-5


@pytest.mark.parametrize("unused", [[], [5], [0, 1, 2, 190]])
def test_obj_uses_every_vertex(scene: ExportScene, tmp_path, unused: list[int]):
    """Blender drops vertices that no element has, and so renumbers the rest."""
    surface = scene.surface
    kept = ~np.isin(surface.triangles, unused).any(axis=1)
    changes = {n: getattr(surface, n)[kept] for n in ("triangles", "uv_triangles", "triangle_part")}
    obj_writer(replace(surface, **changes))(tmp_path / "cut.obj", scene.neutral())
    fields = [line.split() for line in (tmp_path / "cut.obj").read_text().splitlines()]
    count = sum(f[0] == "v" for f in fields if f)
    faces = [[int(c.split("/")[0]) - 1 for c in f[1:]] for f in fields if f and f[0] == "f"]
    lines = [[int(c) - 1 for c in f[1:]] for f in fields if f and f[0] == "l"]
    assert count == surface.n_vertices and np.array_equal(faces, surface.triangles[kept])
    assert {v for element in faces + lines for v in element} == set(range(count))
    assert [a for a, _ in lines] == [b for _, b in lines] == unused, "lines that nobody sees"
    # Readers that know a group as a surface or as lines find one of each.
    kinds: list[set[str]] = [set()]
    for key, *_ in filter(None, fields):
        kinds.append(set()) if key == "g" else kinds[-1].add(key)
    assert not any({"f", "l"} <= kind for kind in kinds)
    assert not unused or "f" not in kinds[0], "three.js joins what precedes to the first group"


def test_npz_holds_vertices_and_the_fit(scene: ExportScene, tmp_path):
    part = replace(scene, frames=np.arange(1, 7))
    with np.load(write_vertices_npz(part, tmp_path)[0], allow_pickle=False) as data:
        expected = frame_vertices(scene.fit, scene.head)[1:7]
        np.testing.assert_allclose(data["vertices"], expected, atol=1e-6)
        assert np.isnan(data["vertices"][2]).all()
        assert np.array_equal(data["expression"], scene.fit.expression[1:7], equal_nan=True)
        assert np.array_equal(data["identity"], scene.fit.identity)
        assert list(data["expression_names"]) == list(scene.head.expression_names)
        assert data["fps"] == 25


def test_csv_holds_the_parameters(scene: ExportScene, tmp_path):
    table, identity = write_csv(scene, tmp_path)
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == scene.fit.n_frames
    assert rows[3]["jawOpen"] == "" and rows[3]["valid"] == "0"
    jaw = scene.head.expression_names.index("jawOpen")
    assert float(rows[5]["jawOpen"]) == pytest.approx(scene.fit.expression[5, jaw], rel=1e-6)
    assert float(rows[5]["left_eye_y"]) == pytest.approx(scene.fit.joints[5, 2, 1], rel=1e-6)
    assert float(rows[5]["residual_px_right"]) == pytest.approx(
        scene.fit.residual_px[5, 1], rel=1e-6
    )
    assert len(identity.read_text().splitlines()) == 1 + scene.head.identity_count


def test_stage_writes_below_export(out: Path):
    written = formats.export(out, ["ply", "csv", "ply"], ExportOptions(frames="0:2"))
    assert set(written) == {"ply", "csv"}
    assert (out / "export" / "ply" / "frame_000001.ply").is_file()
    assert not (out / "export" / "ply" / "frame_000002.ply").exists()


def test_formats_without_the_colour_map_say_so(out: Path, monkeypatch, capsys):
    grey = np.zeros((4, 4, 3), np.uint8)
    monkeypatch.setattr(texture, "bake_texture", lambda scene: grey)
    formats.export(out, ["ply", "obj", "csv", "blender"], ExportOptions(frames="0:1", texture=True))
    assert "ply, blender: without the colour map" in capsys.readouterr().err
    formats.export(out, ["ply"], ExportOptions(frames="0:1"))
    assert "colour map" not in capsys.readouterr().err


def test_unknown_format_names_the_nearest_and_writes_nothing(out: Path):
    with pytest.raises(UsageError, match="did you mean glb"):
        formats.export(out, ["ply", "gltf"])
    assert not (out / "export").exists()


@pytest.mark.parametrize("text", ["20:30", "a:b", "5:5", "1:2:3", "x"])
def test_bad_frame_ranges(text: str):
    with pytest.raises(UsageError, match="--frames"):
        parse_frames(text, 10)


def test_frame_ranges():
    assert list(parse_frames("2:5", 10)) == [2, 3, 4]
    assert list(parse_frames("-2:", 10)) == [8, 9]
    assert list(parse_frames("7", 10)) == [7]
    assert len(parse_frames(None, 10)) == 10


def test_nothing_to_export(tmp_path: Path, head, out: Path):
    with pytest.raises(InputError, match="nothing to export"):
        formats.export(out, ["ply"], ExportOptions(frames="3:5"))
    nothing = {
        n: np.full((9, *s), np.nan) for n, s in {"rotation": (3,), "translation": (3,)}.items()
    }
    write_toy_fit(tmp_path, head, valid=np.zeros(9, bool), **nothing)
    with pytest.raises(InputError, match="no frame has a head"):
        formats.export(tmp_path, ["ply"])


def test_unwritable_folder(out: Path):
    (out / "export").write_text("a file where the folder should be")
    with pytest.raises(InputError, match="export"):
        formats.export(out, ["ply"])
