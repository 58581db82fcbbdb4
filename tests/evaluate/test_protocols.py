"""The published protocols on small folders of the published layout."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import open3d as o3d
import pytest

from densefit.cli import main
from densefit.errors import InputError
from densefit.evaluate import micc, model, now, w300
from densefit.evaluate.surfaces import Similarity, Surface, distances, procrustes, refine
from densefit.head import load_head
from densefit.head.rotation import rotation_matrix


@pytest.fixture(scope="module")
def face():
    """A closed patch of a real head's skin in mm, and its seven landmarks."""
    head = load_head()
    skin = head.triangles[head.part_triangles("skin", "scalp", "ears", "neck")]
    used, triangles = np.unique(skin, return_inverse=True)
    surface = Surface(head.template[used] * 1e3, triangles.reshape(-1, 3))
    return surface, now.seven_points(head, head.template) * 1e3


@pytest.fixture(scope="module")
def ball():
    """A sphere, all of it inside the crops, so that no movement can make up for a shell; and seven
    points."""
    mesh = o3d.geometry.TriangleMesh.create_sphere(40.0, 80)
    vertices = np.asarray(mesh.vertices)
    points = np.array([[-50, 0, 0], [-20, 0, 0], [20, 0, 0], [50, 0, 0], [0, -50, 0],
                       [-30, -80, 0], [30, -80, 0]], float)  # fmt: skip
    return Surface(vertices, np.asarray(mesh.triangles)), points


def shell(face: Surface, thickness: float) -> Surface:
    """The face moved outwards along its normals."""
    corners = face.vertices[face.triangles]
    flat = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normal = np.zeros_like(face.vertices)
    for corner in range(3):
        np.add.at(normal, face.triangles[:, corner], flat)
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    return Surface(face.vertices + thickness * normal, face.triangles)


def away(scale: float = 0.7, seed: int = 0) -> Similarity:
    rng = np.random.default_rng(seed)
    turn = rotation_matrix(0.3 * rng.normal(size=(1, 3)))[0]
    return Similarity(scale, turn, 50 * rng.normal(size=3))


def write_mesh(path: Path, surface: Surface) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    mesh = o3d.geometry.TriangleMesh(
        o3d.utility.Vector3dVector(surface.vertices), o3d.utility.Vector3iVector(surface.triangles)
    )
    o3d.io.write_triangle_mesh(str(path), mesh)
    return path


def test_a_similarity_is_found_again():
    points = np.random.default_rng(1).normal(size=(20, 3))
    pose = away(2.5)
    found = procrustes(points, pose.apply(points), with_scale=True)
    assert found.scale == pytest.approx(2.5)
    np.testing.assert_allclose(found.rotation, pose.rotation, atol=1e-9)
    np.testing.assert_allclose(found.apply(points), pose.apply(points), atol=1e-9)
    rigid = procrustes(points, pose.apply(points), with_scale=False)
    assert rigid.scale == 1
    np.testing.assert_allclose(rigid.rotation, pose.rotation, atol=1e-9)


def test_refinement_finds_the_least_squares_distance(face):
    surface, points = face
    cropped = now.crop(surface.vertices, points)
    rng = np.random.default_rng(0)
    nudge = Similarity(1.03, rotation_matrix(0.04 * rng.normal(size=(1, 3)))[0], np.ones(3) * 2)
    pose = refine(surface, cropped, with_scale=True, start=nudge)
    assert distances(surface.moved(pose), cropped).mean() < 0.01
    # Nothing near it is better, on a scan that no similarity explains.
    rough = cropped + rng.normal(size=cropped.shape)
    pose = refine(surface, rough, with_scale=True)
    best = np.square(distances(surface.moved(pose), rough)).sum()
    for _ in range(6):
        small = Similarity(1 + 1e-3 * rng.normal(), rotation_matrix(
            1e-3 * rng.normal(size=(1, 3)))[0], 0.05 * rng.normal(size=3))  # fmt: skip
        assert np.square(distances(surface.moved(small.after(pose)), rough)).sum() > best


def test_now_of_a_scan_against_itself_is_zero(face):
    surface, points = face
    pose = away()
    errors = now.scan_errors(
        surface, points, surface.moved(pose), pose.apply(points), now.NowOptions()
    )
    assert len(errors) > 500 and errors.max() < 0.01


def test_now_of_a_shell_is_its_thickness(ball):
    """One millimetre off, in metres, with the size that it has: the metrical variant says one."""
    surface, points = ball
    metres = Similarity(1e-3, away().rotation, np.zeros(3))
    errors = now.scan_errors(
        surface, points, shell(surface, 1.0).moved(metres), metres.apply(points),
        now.NowOptions(metrical=True),
    )  # fmt: skip
    assert len(errors) == len(surface.vertices)
    np.testing.assert_allclose(errors, 1.0, atol=0.05)


def test_size_counts_in_the_metrical_variant_alone(face):
    surface, points = face
    large = surface.moved(Similarity(1.2e-3, np.eye(3), np.zeros(3)))
    free = now.scan_errors(surface, points, large, points * 1.2e-3, now.NowOptions())
    held = now.scan_errors(surface, points, large, points * 1.2e-3, now.NowOptions(metrical=True))
    assert np.median(free) < 0.02 and np.median(held) > 1


def test_distance_to_a_shell_without_alignment(face):
    surface, points = face
    cropped = now.crop(surface.vertices, points)
    assert np.median(distances(shell(surface, 1.0), cropped)) == pytest.approx(1.0, abs=0.05)
    assert distances(surface, cropped).max() < 1e-4


def test_crop_is_the_published_sphere():
    points = np.array([[-50, 0, 0], [-20, 0, 0], [20, 0, 0], [50, 0, 0], [0, -50, 0],
                       [-30, -80, 0], [30, -80, 0]], float)  # fmt: skip
    radius = 1.4 * (100 + 50) / 2
    line = np.column_stack([np.zeros(400), np.linspace(-200, 200, 400), np.zeros(400)])
    kept = now.crop(line, points)[:, 1]
    assert kept.min() == pytest.approx(-35 - radius, abs=1.1)
    assert kept.max() == pytest.approx(-35 + radius, abs=1.1)


@pytest.fixture
def now_folder(ball, tmp_path):
    """Two subjects of which the second's prediction is 1 mm thick; as unpacked."""
    surface, points = ball
    folder, predictions = tmp_path / "now", tmp_path / "predictions"
    lines = []
    for number, subject in enumerate(("FaMoS_1", "FaMoS_2")):
        write_mesh(folder / "scans" / subject / "scan.obj", surface)
        marks = folder / "scans_lmks_onlypp" / subject / "scan.pp"
        marks.parent.mkdir(parents=True)
        rows = [
            f' <point x="{x}" y="{y}" z="{z}" active="1" name="{i}"/>'
            for i, (x, y, z) in enumerate(points)
        ]
        marks.write_text("<!DOCTYPE PickedPoints>\n<PickedPoints>\n" + "\n".join(rows) + "\n")
        pose = away(1e-3, number)
        target = predictions / subject / "selfie" / "IMG_1"
        write_mesh(target.with_suffix(".ply"), shell(surface, float(number)).moved(pose))
        np.save(target.with_suffix(".npy"), pose.apply(points))
        lines.append(f"iphone_pictures/{subject}/selfie/IMG_1.jpg")
    lines.append("iphone_pictures/FaMoS_2/multiview_neutral/IMG_2.jpg")
    (folder / "imagepathsvalidation.txt").write_text("\n".join(lines) + "\n")
    return folder, predictions


def test_now_folder(now_folder, capsys):
    folder, predictions = now_folder
    found = now.evaluate_now(folder, predictions, now.NowOptions(metrical=True))
    assert "1 of 3 images" in capsys.readouterr().err
    assert set(found) == {"selfie", "all"}
    half = len(found["all"].values) // 2
    assert found["all"].values[:half].max() < 0.02
    np.testing.assert_allclose(found["all"].values[half:], 1.0, atol=0.05)
    command = ["evaluate", "now", str(folder), "-p", str(predictions), "--metrical"]
    assert main(command) == 0
    assert "selfie" in capsys.readouterr().out
    assert main([*command, "--unit", "mm"]) == 3
    assert "IMG_1.ply" in (err := capsys.readouterr().err) and "give --unit m\n" in err


def test_table_as_json(now_folder, tmp_path, monkeypatch, capsys):
    folder, predictions = now_folder
    command = ["evaluate", "now", str(folder), "-p", str(predictions), "--json"]
    table = tmp_path / "new" / "folder" / "now.json"
    assert main([*command, str(table)]) == 0
    assert set(json.loads(table.read_text())) == {"selfie", "all"}
    monkeypatch.setattr(now, "evaluate_now", lambda *_: pytest.fail("measured in vain"))
    monkeypatch.setattr(model, "evaluate_model", lambda *_: pytest.fail("measured in vain"))
    monkeypatch.setattr(w300, "evaluate_300w", lambda *_: pytest.fail("measured in vain"))
    measured = [command, ["evaluate", "300w", str(folder), "--json"],
                ["evaluate", "model", "--heads", str(folder), "--json"]]  # fmt: skip
    for begin in measured:
        for impossible in (table.parent, table / "below.json"):
            assert main([*begin, str(impossible)]) == 3
            assert str(table.parent) in capsys.readouterr().err


def test_now_names_what_is_missing(now_folder, tmp_path):
    folder, predictions = now_folder
    with pytest.raises(InputError, match="imagepathsvalidation.txt"):
        now.evaluate_now(tmp_path / "nowhere", predictions, now.NowOptions())
    with pytest.raises(InputError, match="nothing predicted"):
        now.evaluate_now(folder, tmp_path, now.NowOptions())
    with pytest.raises(InputError, match="no image of challenge 'smile'"):
        now.evaluate_now(folder, predictions, now.NowOptions(challenge="smile"))
    np.save(predictions / "FaMoS_1" / "selfie" / "IMG_1.npy", np.zeros((6, 3)))
    with pytest.raises(InputError, match="IMG_1.npy"):
        now.evaluate_now(folder, predictions, now.NowOptions())


def test_micc_of_itself_and_of_a_shell(ball, tmp_path):
    surface, _ = ball
    folder, predictions = tmp_path / "micc", tmp_path / "p"
    write_mesh(folder / "subject_01" / "Model" / "frontal1" / "obj" / "1.obj", surface)
    small = Similarity(
        1.0, rotation_matrix(np.array([[0.05, -0.04, 0.03]]))[0], np.array([9.0, 5, 2])
    )
    write_mesh(predictions / "subject_01" / "indoor.obj", surface.moved(small))
    write_mesh(predictions / "subject_01" / "outdoor.ply", shell(surface, 1.0).moved(small))
    found = micc.evaluate_micc(folder, predictions, metrical=True, unit="mm")
    assert set(found) == {"indoor", "outdoor"}
    assert found["indoor"].values.max() < 0.01
    assert found["outdoor"].table()["mean"] == pytest.approx(1.0, abs=0.05)
    # In metres and with free scale the scan against itself is zero too.
    metres = Similarity(1e-3, small.rotation, np.zeros(3))
    write_mesh(predictions / "subject_01" / "indoor.obj", surface.moved(metres))
    assert micc.evaluate_micc(folder, predictions)["indoor"].values.max() < 0.05
    # As `export` writes them, and in the metrical variant.
    (predictions / "subject_01" / "outdoor.ply").unlink()
    assert micc.evaluate_micc(folder, predictions, True)["indoor"].values.max() < 0.05
    for wrong in ("cm", "mm"):
        with pytest.raises(InputError, match=r"indoor.obj: .* if its unit is .*; give --unit m$"):
            micc.evaluate_micc(folder, predictions, True, wrong)
    with pytest.raises(InputError, match="nothing predicted"):
        micc.evaluate_micc(folder, tmp_path / "none")
    with pytest.raises(InputError, match="no SUBJECT folders"):
        micc.evaluate_micc(tmp_path / "none", predictions)


def test_a_subset_without_a_face_is_null(tmp_path, monkeypatch, capsys):
    """NaN is no JSON."""
    score = w300.SubsetScore(pictures=2, missed=2, nme=float("nan"), failures=1.0)
    monkeypatch.setattr(w300, "evaluate_300w", lambda *_: {"full": score})
    assert main(["evaluate", "300w", str(tmp_path), "--json", str(tmp_path / "a.json")]) == 0
    assert json.loads((tmp_path / "a.json").read_text())["full"]["nme"] is None
    assert "nme nan" in capsys.readouterr().out


def write_pts(path: Path, points: np.ndarray) -> None:
    rows = "\n".join(f"{x} {y}" for x, y in points + 1)
    path.write_text(f"version: 1\nn_points: 68\n{{\n{rows}\n}}\n")


def test_300w(tmp_path):
    rng = np.random.default_rng(0)
    truth = rng.uniform(0, 100, (68, 2))
    truth[36], truth[45] = [10, 50], [60, 50]
    for place, count in (("helen/testset", 2), ("lfpw/testset", 1), ("ibug", 1)):
        folder = tmp_path / place
        folder.mkdir(parents=True)
        for number in range(count):
            (folder / f"{number}.jpg").write_bytes(b"")
            write_pts(folder / f"{number}.pts", truth)

    def points_of(picture: Path, annotation: np.ndarray) -> np.ndarray | None:
        np.testing.assert_allclose(annotation, truth, atol=1e-9)
        if "helen" in str(picture):
            return annotation + [1.5, 2.0]  # 2.5 px of 50 are 5 %
        return None if "lfpw" in str(picture) else annotation + [0, 6.0]

    scores = w300.evaluate_300w(tmp_path, points_of)
    assert scores["common"].pictures == 3 and scores["common"].missed == 1
    assert scores["common"].nme == pytest.approx(5.0)
    assert scores["challenging"].nme == pytest.approx(12.0)
    assert scores["challenging"].failures == 1 and scores["full"].failures == 0.5
    write_pts(tmp_path / "ibug" / "0.pts", truth[:5])
    with pytest.raises(InputError, match="5 points, expected 68"):
        w300.evaluate_300w(tmp_path, points_of)
    with pytest.raises(InputError, match="no pictures with .pts"):
        w300.evaluate_300w(tmp_path / "helen", points_of)
