"""Rig check: figures of a known rig, and each usual mistake recognized by its name."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from board_views import make_rig

from calibration import Camera, Rig
from calibration.draw_rig import write_rig_html, write_rig_png
from calibration.geometry import describe, rig_geometry
from calibration.rotations import invert, matrix_from_vector, transform
from calibration.suspicion import explain, residuals, suspicions
from calibration.triangulation import triangulate

FLIP = np.diag([1.0, -1, -1, 1])


def rig_of(cameras: list[Camera]) -> Rig:
    return Rig({camera.name: camera for camera in cameras})


def changed(rig: Rig, change) -> Rig:
    return rig_of(
        [replace(c, T_camera_world=change(c.T_camera_world)) for c in rig.cameras.values()]
    )


def looking_at_head(azimuth: float, elevation: float, distance: float) -> np.ndarray:
    """(4, 4) of a camera that looks at (0, 0, 1), degrees and metres; the world's +y is down."""
    a, e = np.radians([azimuth, elevation])
    back = np.array([np.sin(a) * np.cos(e), -np.sin(e), -np.cos(a) * np.cos(e)])
    z = -back
    x = np.cross([0.0, 1, 0], z)
    x /= np.linalg.norm(x)
    R = np.stack([x, np.cross(z, x), z])
    return transform(R, -R @ (np.array([0, 0, 1.0]) + distance * back))


@pytest.fixture
def rig() -> Rig:
    """Four cameras as people place them: no symmetry that would hide a mistake."""
    places = [(-50, 5, 0.9), (-12, 18, 1.25), (20, -8, 1.05), (62, 12, 0.8)]
    cameras = zip(make_rig(4), places, strict=True)
    return rig_of([replace(c, T_camera_world=looking_at_head(*place)) for c, place in cameras])


def faces(rig: Rig, count: int = 60, noise: float = 0.7) -> np.ndarray:
    """(C, N, 2) what the cameras see of points on a head-sized ball, a few hidden."""
    rng = np.random.default_rng(0)
    points = rng.normal(0, 1, (count, 3))
    points = points / np.linalg.norm(points, axis=1)[:, None] * 0.09 + [0.01, 0.02, 1.0]
    xy = np.stack([camera.project(points) for camera in rig.cameras.values()])
    xy += rng.normal(0, noise, xy.shape)
    xy[rng.random(xy.shape[:2]) < 0.1] = np.nan
    return xy


def test_figures(rig: Rig) -> None:
    geometry = rig_geometry(rig)
    np.testing.assert_allclose(geometry.target, [0, 0, 1], atol=1e-9)
    np.testing.assert_allclose(geometry.off_axis, 0, atol=1e-4)
    assert geometry.up @ [0, -1, 0] > 0.95
    np.testing.assert_allclose(geometry.depth, [0.9, 1.25, 1.05, 0.8], atol=1e-9)
    # The law of cosines in the triangle of two cameras and the head.
    cosine = np.cos(np.radians(geometry.angle[0, 1]))
    expected = np.sqrt(0.9**2 + 1.25**2 - 2 * 0.9 * 1.25 * cosine)
    assert geometry.baseline[0, 1] == pytest.approx(expected, rel=1e-6)
    across = 2 * np.degrees(np.arctan(640 / 1100))
    straight = replace(rig.cameras["cam0"], dist=np.zeros(0))
    assert rig_geometry(rig_of([straight])).field_of_view[0, 0] == pytest.approx(across, abs=0.1)
    np.testing.assert_allclose(np.diag(geometry.overlap), 1)
    assert geometry.overlap[0, 1] > 0.9
    lines = describe(geometry)
    assert len(lines) == 1 + 4 + 1 + 6
    assert f"{geometry.angle[0, 1]:.1f}" in lines[6]


def test_a_good_rig_is_not_suspected(rig: Rig) -> None:
    assert not suspicions(rig)
    xy = faces(rig)
    assert not explain(rig, list(rig.cameras), xy)
    assert residuals(list(rig.cameras.values()), xy).overall < 2


def test_parallel_cameras_are_not_suspected() -> None:
    base = make_rig(1)[0]
    second = base.T_camera_world.copy()
    second[0, 3] = -0.12
    assert not suspicions(rig_of([base, replace(base, name="cam1", T_camera_world=second)]))


@pytest.mark.parametrize(
    ("cause", "change"),
    [
        ("inverted", invert),
        ("opengl", lambda T: FLIP @ T),
        ("inverted opengl", lambda T: invert(FLIP @ T)),
    ],
)
def test_misread_extrinsics_are_seen_without_a_take(rig: Rig, cause: str, change) -> None:
    # In another world, as most files have it: the first camera is no special place.
    world = transform(matrix_from_vector(np.array([0.4, -0.7, 0.2])), np.array([0.5, 0.3, -0.4]))
    found = suspicions(changed(changed(rig, lambda T: T @ world), change))
    assert [s.cause for s in found] == [cause]


@pytest.mark.parametrize(("unit", "factor"), [("cm", 100.0), ("mm", 1000.0)])
def test_wrong_units(rig: Rig, unit: str, factor: float) -> None:
    def scaled(T: np.ndarray) -> np.ndarray:
        T = T.copy()
        T[:3, 3] *= factor
        return T

    found = suspicions(changed(rig, scaled))
    assert [s.cause for s in found] == ["units"]
    assert re.search(rf"units: \w*{unit}|or {unit}", found[0].text)


def test_K_of_another_picture(rig: Rig) -> None:
    camera = rig.cameras["cam1"]
    wrong = replace(camera, width=640, height=480)
    found = suspicions(rig_of([rig.cameras["cam0"], wrong]))
    assert found[0].cause == "picture size" and "'cam1'" in found[0].text
    turned = suspicions(rig_of([rig.cameras["cam0"], replace(camera, width=700, height=1900)]))
    assert turned[0].cause == "picture size"


@pytest.mark.parametrize("focal", [0.001, 1.0, 1e6])
def test_a_focal_length_that_no_lens_has(rig: Rig, focal: float) -> None:
    camera = rig.cameras["cam1"]
    K = camera.K.copy()
    K[0, 0] = K[1, 1] = focal
    found = suspicions(rig_of([rig.cameras["cam0"], replace(camera, K=K)]))
    assert found[0].cause == "focal length" and "'cam1'" in found[0].text


@pytest.mark.parametrize(
    ("cause", "change"),
    [
        ("inverted", invert),
        ("opengl", lambda T: FLIP @ T),
        ("inverted opengl", lambda T: invert(FLIP @ T)),
        ("mirrored", lambda T: np.diag([-1.0, 1, 1, 1]) @ T @ np.diag([-1.0, 1, 1, 1])),
    ],
)
def test_points_tell_misread_extrinsics(rig: Rig, cause: str, change) -> None:
    found = explain(changed(rig, change), list(rig.cameras), faces(rig))
    assert [s.cause for s in found] == [cause]


def test_points_tell_swapped_recordings(rig: Rig) -> None:
    xy = faces(rig)[[0, 2, 1, 3]]
    found = explain(rig, list(rig.cameras), xy)
    assert [s.cause for s in found] == ["swapped"]
    assert "'cam1' and 'cam2'" in found[0].text


def test_points_tell_a_moved_camera(rig: Rig) -> None:
    T = rig.cameras["cam2"].T_camera_world.copy()
    T[:3, :3] = matrix_from_vector(np.array([0.0, np.radians(2), 0])) @ T[:3, :3]
    T[:3, 3] += [0.03, 0, 0]
    cameras = dict(rig.cameras, cam2=replace(rig.cameras["cam2"], T_camera_world=T))
    found = explain(Rig(cameras), list(cameras), faces(rig))
    assert [s.cause for s in found] == ["moved"]
    assert "'cam2'" in found[0].text
    millimetres = float(re.search(r"by (\d+) mm", found[0].text)[1])
    truth = np.linalg.norm(cameras["cam2"].position - rig.cameras["cam2"].position) * 1e3
    assert millimetres == pytest.approx(truth, rel=0.2)


def test_one_bad_camera_does_not_hide_among_good_ones(rig: Rig) -> None:
    """Two cameras agree and outvote the third; the mean of the medians looks well."""
    names = ["cam0", "cam1", "cam2"]
    xy = faces(rig, noise=0.1)[:3]
    xy[2] += [0.0, 14.0]
    fit = residuals([rig.cameras[name] for name in names], xy)
    limit = 6e-3 * rig.cameras["cam0"].K[0, 0]
    assert fit.overall < limit < fit.median.max() == fit.median[2]
    (found,) = explain(rig, names, xy)
    assert "'cam2'" in found.text


def test_noise_without_a_cause_is_called_unknown(rig: Rig) -> None:
    found = explain(rig, list(rig.cameras), faces(rig, noise=60))
    assert [s.cause for s in found] == ["unknown"]


def test_triangulation_withstands_one_wrong_camera(rig: Rig) -> None:
    clean = faces(rig, noise=0.0)
    truth = triangulate(list(rig.cameras.values()), clean)
    spoilt = clean.copy()
    spoilt[3, ::3] += 80
    points = triangulate(list(rig.cameras.values()), spoilt)
    seen = np.isfinite(clean).all(axis=2).sum(axis=0) == 4
    assert np.linalg.norm(points[seen] - truth[seen], axis=1).max() < 6e-3
    one = clean.copy()
    one[1:, 5] = np.nan
    assert np.isnan(triangulate(list(rig.cameras.values()), one)[5]).all()


def test_pictures(rig: Rig, tmp_path: Path) -> None:
    import cv2

    write_rig_png(tmp_path / "rig.png", rig)
    picture = cv2.imread(str(tmp_path / "rig.png"))
    assert picture.shape == (560, 3 * 560, 3)
    assert (picture < 200).any(axis=2).sum() > 2000
    write_rig_html(tmp_path / "rig.html", rig, ["a < b"])
    page = (tmp_path / "rig.html").read_text()
    assert "a &lt; b" in page and "http" not in page
    scene = json.loads(re.search(r"const scene = (.*);", page)[1])
    assert [label[1] for label in scene["labels"]] == [*rig.cameras, "head"]
