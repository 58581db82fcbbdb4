"""Lips of the shipped head: they touch, do not cross, and stay shut on everybody."""

from __future__ import annotations

from typing import Any

import numpy as np

from densefit.head import load_head
from densefit.head.build.lips import JAW_SHARE, jaw_share
from densefit.head.build.mesh import cast, raycaster
from densefit.head.model import EXPRESSION_INDEX


def test_closed_lips_touch_and_do_not_cross() -> None:
    """Seen with the jaw open, so that neither lip can be taken for the other."""
    head = load_head()
    jaw_open = head.expression_basis[EXPRESSION_INDEX["jawOpen"]]
    skin = head.triangles[head.part_triangles("skin", "mouth")]
    down = jaw_share(jaw_open)[skin].mean(1) > JAW_SHARE
    lips = {low: raycaster(head.template, skin[down == low]) for low in (False, True)}
    y = head.landmarks(head.template)[head.region("lips_inner_upper"), 1].mean()
    gaps = []
    for x in (0.0005, 0.006, 0.012):
        for z in np.arange(0.026, 0.032, 5e-4):
            bottom = hit(lips[False], (x, y - 0.012, z), (0, 1, 0))
            top = hit(lips[True], (x, y + 0.012, z), (0, -1, 0))
            gaps.append((y - 0.012 + bottom) - (y + 0.012 - top))
    touching = np.array(gaps)[np.isfinite(gaps)]
    assert len(touching) > 20
    assert touching.min() > -0.4e-3  # they do not reach into one another
    assert np.percentile(touching, 20) < 0.3e-3  # nor is the mouth open


def hit(scene: Any, origin: tuple[float, ...], direction: tuple[float, ...]) -> float:
    return float(cast(scene, np.array([origin]), np.array(direction, float))["t_hit"][0])


def test_whoever_is_neutral_has_a_shut_mouth() -> None:
    head, rng = load_head(), np.random.default_rng(5)
    upper, lower = head.region("lips_inner_upper")[1:-1], head.region("lips_inner_lower")

    def apart(vertices: np.ndarray) -> np.ndarray:
        points = head.landmarks(vertices)
        return points[upper] - points[lower]

    rest = apart(head.template)
    for _ in range(20):
        person = head.neutral(rng.normal(size=head.identity_count))
        assert np.abs(apart(person) - rest).max() < 0.8e-3
        assert np.abs(apart(person) - rest).mean() < 0.25e-3
    opened = np.zeros((1, 52), np.float32)
    opened[0, EXPRESSION_INDEX["jawOpen"]] = 0.5
    wide = apart(head.shapes(np.zeros(head.identity_count), opened)[0])
    assert (wide - rest)[7, 1] > 8e-3  # and it opens
