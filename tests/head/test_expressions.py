"""The 52 shapes of the shipped head do what ARKit's names say, and nothing comes through the
skin."""

from __future__ import annotations

import numpy as np
import pytest

from densefit.head import load_head
from densefit.head.build.mesh import cast, raycaster
from densefit.head.model import EXPRESSION_INDEX, EXPRESSION_NAMES, HeadModel, twin

MM = 1e-3
LINING = ("mouthPucker", "cheekPuff", "jawForward", "noseSneerLeft", "mouthSmileLeft")


@pytest.fixture(scope="module")
def head() -> HeadModel:
    return load_head()


def posed(head: HeadModel, **values: float) -> np.ndarray:
    """Vertices (V, 3) of the mean head with some shapes; left ones bring their right twins."""
    expression = np.zeros((1, 52), np.float32)
    for name, value in values.items():
        expression[0, EXPRESSION_INDEX[name]] = value
        expression[0, EXPRESSION_INDEX[twin(name)]] = value
    return np.asarray(head.shapes(np.zeros(head.identity_count), expression)[0], float)


def moved(head: HeadModel, region: str, place: int | slice, **values: float) -> np.ndarray:
    """Mean displacement (3,) of landmarks of a region, in metres."""
    which = np.atleast_1d(head.region(region)[place])
    shift = head.landmarks(posed(head, **values)) - head.landmarks(head.template)
    return np.asarray(shift[which].mean(0))


def test_twins() -> None:
    assert twin("mouthSmileLeft") == "mouthSmileRight"
    assert twin("jawRight") == "jawLeft"
    assert twin("jawOpen") == "jawOpen"


def test_shapes_are_symmetric(head: HeadModel) -> None:
    flip = np.array([-1.0, 1.0, 1.0])
    for i, name in enumerate(EXPRESSION_NAMES):
        seen = head.expression_basis[i][head.mirror_vertices] * flip
        other = head.expression_basis[EXPRESSION_INDEX[twin(name)]]
        assert np.abs(seen - other).max() < 0.05 * MM, name


def test_lips_go_where_the_names_say(head: HeadModel) -> None:
    middle = slice(6, 9)
    assert moved(head, "lips_inner_upper", middle, mouthFunnel=1)[2] > 3 * MM
    assert moved(head, "lips_inner_upper", middle, mouthPucker=1)[2] > 3 * MM
    assert moved(head, "lips_inner_upper", middle, noseSneerLeft=1)[1] > 3 * MM
    assert moved(head, "lips_inner_upper", middle, mouthUpperUpLeft=1)[1] > 3 * MM
    assert moved(head, "lips_inner_lower", middle, mouthLowerDownLeft=1)[1] < -2 * MM
    corner = moved(head, "lips_inner_upper", 0, mouthSmileLeft=1)
    assert abs(corner[0]) > 4 * MM and corner[1] > 3 * MM
    assert moved(head, "lips_inner_upper", 0, mouthFrownLeft=1)[1] < -3 * MM


def test_an_open_jaw_with_the_mouth_closed_is_shut(head: HeadModel) -> None:
    upper, lower = head.region("lips_inner_upper")[1:-1], head.region("lips_inner_lower")

    def gap(vertices: np.ndarray) -> np.ndarray:
        points = head.landmarks(vertices)
        return np.asarray((points[upper] - points[lower])[:, 1])

    wide = gap(posed(head, jawOpen=1)) - gap(head.template)
    shut = gap(posed(head, jawOpen=1, mouthClose=1)) - gap(head.template)
    assert wide[7] > 25 * MM
    assert np.abs(shut).max() < 2.5 * MM
    assert np.abs(shut).mean() < 1 * MM


def test_lower_teeth_go_with_the_chin(head: HeadModel) -> None:
    teeth = np.unique(head.triangles[head.part_triangles("teeth")])
    for name, axis in (("jawOpen", 1), ("jawForward", 2), ("jawLeft", 0)):
        shape = head.expression_basis[EXPRESSION_INDEX[name]]
        chin = shape[head.landmark_vertices[head.ibug68[8]]].mean(0)[axis]
        front = teeth[head.template[teeth, 2] > head.template[teeth, 2].max() - 8 * MM]
        farthest = np.sort(shape[front, axis] * np.sign(chin))[-20:].mean()
        assert 0.7 < farthest / abs(chin) < 1.3, name


@pytest.mark.parametrize("name", LINING)
def test_linings_stay_behind_the_skin(head: HeadModel, name: str) -> None:
    """Seen from the front and from below, the skin round the nose hides its linings."""
    vertices = posed(head, **{name: 1.0})
    nose = head.landmarks(vertices)[head.ibug68[33]]
    x, y = np.meshgrid(np.linspace(-25, 25, 60) * MM, np.linspace(-6, 20, 40) * MM)
    for back in (np.array([0.0, 0.0, 1.0]), np.array([0.6, 0.0, 0.8])):
        right = np.cross((0, 1, 0), back)
        origin = nose + x[..., None] * right + y[..., None] * np.array([0, 1.0, 0]) + 0.3 * back
        hit = cast(raycaster(vertices, head.triangles), origin, -back)
        found = np.isfinite(hit["t_hit"])
        part = head.triangle_part[hit["primitive_ids"][found].astype(int)]
        # Into the nostrils one looks from below only.
        assert (part == head.part_names.index("mouth")).mean() < 0.01, name
