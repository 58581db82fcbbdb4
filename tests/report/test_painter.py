"""The head is drawn where the lens puts it, and nowhere else."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from calibration import Camera
from densefit.head.model import EXPRESSION_INDEX, load_head
from densefit.report.painter import HeadPainter, PainterOptions
from tests.toy_fit import toy_head

WIDTH, HEIGHT = 320, 240
BENT = [-0.6, 0.3, 0.02, -0.02]


def camera(dist: list[float], z: float = 0.6) -> Camera:
    K = [[300.0, 0, 150.0], [0, 310.0, 118.0], [0, 0, 1]]
    T = np.eye(4)
    T[:3, 3] = [0.16, 0.05, z]  # off-centre, so that distortion moves the head
    return Camera("a", WIDTH, HEIGHT, K=K, dist=dist, T_camera_world=T)


@pytest.fixture(scope="module")
def head():
    """All skin: lashes are not drawn; landmarks on the surface."""
    toy = toy_head()
    on_vertex = np.tile(np.array([1, 0, 0], np.float32), (703, 1))
    return replace(toy, triangle_part=np.zeros_like(toy.triangle_part), landmark_weights=on_vertex)


def painted_area(head, view: Camera, side: int = 384) -> np.ndarray:
    grey = np.full((HEIGHT, WIDTH, 3), 127, np.uint8)
    picture = HeadPainter(head, PainterOptions(raster_side=side)).draw(grey, head.template, view)
    assert (grey == 127).all(), "the picture given must not change"
    return (picture != 127).any(axis=2)


@pytest.mark.parametrize("dist", [[], BENT])
@pytest.mark.parametrize("side", [384, 60])
def test_silhouette_is_the_projected_hull(head, dist, side):
    view = camera(dist)
    area = painted_area(head, view, side)
    expected = np.zeros((HEIGHT, WIDTH), np.uint8)
    hull = cv2.convexHull(view.project(head.template).astype(np.float32))
    cv2.fillConvexPoly(expected, np.round(hull).astype(np.int32), 1)
    overlap = (area & (expected > 0)).sum() / (area | (expected > 0)).sum()
    # Outlines are one raster pixel wider than the surface.
    assert overlap > (0.93 if side == 384 else 0.83)


def test_distortion_matters_for_the_test_above(head):
    straight, bent = (painted_area(head, camera(d)) for d in ([], BENT))
    assert (straight & bent).sum() / (straight | bent).sum() < 0.8


def test_head_behind_the_camera_or_outside_changes_nothing(head):
    assert not painted_area(head, camera([], z=-0.6)).any()
    aside = camera([])
    away = head.template + np.array([5, 0, 0], np.float32)
    grey = np.full((HEIGHT, WIDTH, 3), 127, np.uint8)
    assert (HeadPainter(head).draw(grey, away, aside) == 127).all()


def test_head_around_the_camera_changes_nothing(head):
    assert not painted_area(head, camera([], z=0.0)).any()


def test_head_larger_than_the_picture(head):
    area = painted_area(head, camera([], z=0.16))
    assert area.any() and area[:, -1].any()


def test_landmark_curves_are_drawn(head):
    """Lids come in a colour that shading never gives: greener than red."""
    grey = np.full((HEIGHT, WIDTH, 3), 127, np.uint8)
    picture = HeadPainter(head).draw(grey, head.template, camera([])).astype(int)
    assert (picture[..., 1] > picture[..., 0] + 60).any()


@pytest.mark.parametrize("closed", [0.0, 1.0])
def test_irises_are_not_drawn_through_lids(closed: float):
    """Lids are 0.3 mm from the eyeball, less than what depth can tell."""
    shipped = load_head()
    psi = np.zeros((1, 52), np.float32)
    psi[:, [EXPRESSION_INDEX["eyeBlinkLeft"], EXPRESSION_INDEX["eyeBlinkRight"]]] = closed
    person = np.zeros(shipped.identity_count)
    vertices = shipped.vertices(person, psi, np.zeros((1, 4, 3)))[0]
    turned = np.diag([1.0, -1.0, -1.0, 1.0])
    turned[2, 3] = 0.25  # the face fills the picture
    view = replace(camera([]), T_camera_world=turned)
    grey = np.full((HEIGHT, WIDTH, 3), 127, np.uint8)
    painter = HeadPainter(shipped, PainterOptions(opacity=0.0))
    picture = painter.draw(grey, vertices, view).astype(int)
    blue = picture[..., 2] > picture[..., 1] + 30
    assert blue.any() == (closed == 0.0)


def test_several_at_once_are_drawn_as_one_by_one(head):
    """Heads near and far, and one that is outside, in pictures of different sizes."""
    near, far = camera([], z=0.3), camera([], z=1.2)
    tall = replace(camera([]), width=200, height=300)
    away = head.template + np.array([5, 0, 0], np.float32)
    tasks = [(near, head.template), (far, head.template), (far, away), (tall, head.template)]
    greys = [np.full((view.height, view.width, 3), 127, np.uint8) for view, _ in tasks]
    painter = HeadPainter(head)
    together = painter.draw_all(greys, np.stack([v for _, v in tasks]), [c for c, _ in tasks])
    for grey, (view, vertices), picture in zip(greys, tasks, together, strict=True):
        alone = painter.draw(grey, vertices, view)
        assert picture.shape == grey.shape
        assert (np.abs(picture.astype(int) - alone) > 2).mean() < 0.002
    assert (together[2] == 127).all() and (together[0] != 127).any()
