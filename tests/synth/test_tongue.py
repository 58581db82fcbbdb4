"""Tongues that are put out and bent."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from densefit.head import load_head
from densefit.head.model import EXPRESSION_INDEX
from densefit.synth.people import ACTS, sample_people
from densefit.synth.sampling import Dice
from densefit.synth.tongue import LEAST, bend_tongue, sample_tongue

LIPS = 0.02


def rod() -> tuple[torch.Tensor, torch.Tensor]:
    """A tongue that is a line along z from -3 cm to 1 cm beyond the lips, and one other vertex."""
    z = torch.linspace(-0.03, 0.03, 121)
    points = torch.stack([torch.zeros(121), torch.full((121,), -0.07), z], 1)
    vertices = torch.cat([points, torch.ones(1, 3)])[None]
    return vertices, torch.arange(121)


@pytest.mark.parametrize("up", [-0.8, 0.0, 1.0, math.pi])
def test_the_part_before_the_lips_is_an_arc(up: float) -> None:
    vertices, tongue = rod()
    length = 0.03
    bend = torch.tensor([[up, 0.0, length, 1.0, 1.0]])
    out = bend_tongue(vertices, tongue, torch.tensor([LIPS]), bend)[0]
    assert torch.equal(out[-1], vertices[0, -1]), "nothing else moves"
    before = out[:121][out[:121, 2] > LIPS - 1e-6]
    steps = (before[1:] - before[:-1]).norm(dim=1)
    assert float(steps.sum()) == pytest.approx(length, rel=0.06)
    tip = out[120]
    if up:
        expected = (1 - math.cos(up)) / up * length, math.sin(up) / up * length
    else:
        expected = 0.0, length
    assert float(tip[1]) + 0.07 == pytest.approx(expected[0], abs=1e-5)
    assert float(tip[2]) - LIPS == pytest.approx(expected[1], abs=1e-5)


def test_a_tongue_behind_the_lips_comes_out_and_one_that_is_in_stays() -> None:
    vertices, tongue = rod()
    far = torch.tensor([0.05])
    out = bend_tongue(vertices, tongue, far, torch.tensor([[0.0, 0.0, LEAST, 1.0, 1.0]]))
    assert float(out[0, :121, 2].max()) == pytest.approx(0.05 + LEAST, abs=1e-6)
    still = bend_tongue(vertices, tongue, far, torch.zeros(1, 5))
    assert torch.equal(still, vertices)


def test_what_is_out_is_broader_and_thicker() -> None:
    _, tongue = rod()
    vertices = rod()[0]
    vertices[0, :121:3, 0] += 0.010  # every third vertex aside, every third above
    vertices[0, 1:121:3, 1] += 0.004
    plain, grown = (
        bend_tongue(
            vertices, tongue, torch.tensor([LIPS]), torch.tensor([[0, 0, 0.02, *size]])
        )[0, :121]
        for size in ((1.0, 1.0), (1.5, 2.0))
    )  # fmt: skip
    before = plain[:, 2] > LIPS + 1e-4

    def spread(points: torch.Tensor) -> torch.Tensor:
        return points[before, :2].amax(0) - points[before, :2].amin(0)

    np.testing.assert_allclose(spread(grown) / spread(plain), [1.5, 2.0], rtol=1e-3)
    deep = plain[:, 2] < LIPS - 0.02
    assert torch.allclose(grown[deep], plain[deep], atol=1e-6)


def test_only_tongues_that_are_out_are_bent() -> None:
    dice = Dice(torch.Generator().manual_seed(0), 400)
    out = dice.uniform(0, 1)
    bend = sample_tongue(dice, out)
    assert ((bend[:, 2] > 0) == (out > 0.3)).all()
    angles = bend[out > 0.3]
    assert angles[:, 0].max() > 2 and angles[:, 0].min() < -0.7
    assert angles[:, 1].max() > 1 and angles[:, 1].min() < -1


def test_an_act_can_be_favoured() -> None:
    def share(favour: str | None) -> float:
        dice = Dice(torch.Generator().manual_seed(1), 500)
        people = sample_people(dice, 3, favour)
        return float((people.expression[:, EXPRESSION_INDEX["tongueOut"]] > 0.3).float().mean())

    assert "tongue" in ACTS
    assert share(None) < 0.15 < 0.4 < share("tongue")


def test_bent_tongues_lie_before_the_lips() -> None:
    """On the shipped head: every tip is in front of the lips, and the skin is as it was."""
    from densefit.synth.geometry import GeometryBuilder

    head = load_head()
    builder = GeometryBuilder(head, torch.device("cpu"))
    dice = Dice(torch.Generator().manual_seed(2), 8)
    people = sample_people(dice, head.identity_count, "tongue")
    plain = builder.head.vertices(people.identity, people.expression, people.joints)
    bent = builder._with_tongue(plain, people.tongue)
    lips = builder.head.landmarks(plain)[:, builder.lips, 2].amax(1)
    out = people.tongue[:, 2] > 0
    assert out.any()
    assert (bent[:, builder.tongue, 2].amax(1)[out] > lips[out] + 0.003).all()
    others = np.setdiff1d(np.arange(len(head.template)), builder.tongue.numpy())
    assert torch.equal(bent[:, others], plain[:, others])
