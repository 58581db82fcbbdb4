"""Lids of random people: never inside the eyeballs, closed by a blink, the template untouched."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from densefit.head import EXPRESSION_NAMES, HeadModel, load_head
from densefit.head.build.lids import border
from densefit.head.lids import settled

EYE_RADIUS = 0.012


@pytest.fixture(scope="module")
def head() -> HeadModel:
    return load_head()


def poses() -> tuple[np.ndarray, np.ndarray]:
    """Expressions (P, 52) and joints (P, 4, 3): half and full blinks with everything that also
    moves the lids, and gazes to all sides."""
    blinks, squints, looks = (0, 0.5, 0.75, 1), (0, 1), ((0, 0), (-0.4, 0), (0.4, 0), (0, 0.55))
    expression, joints = [], []
    for blink in blinks:
        for squint in squints:
            for pitch, yaw in looks:
                psi, turn = np.zeros(52, np.float32), np.zeros((4, 3), np.float32)
                for side in ("Left", "Right"):
                    psi[EXPRESSION_NAMES.index(f"eyeBlink{side}")] = blink
                    psi[EXPRESSION_NAMES.index(f"eyeSquint{side}")] = squint
                    psi[EXPRESSION_NAMES.index(f"eyeWide{side}")] = 1 - squint
                turn[2:] = pitch, yaw, 0
                expression.append(psi)
                joints.append(turn)
    return np.array(expression), np.array(joints)


def test_no_lid_vertex_enters_an_eyeball(head: HeadModel) -> None:
    rng = np.random.default_rng(11)
    skin = np.unique(head.triangles[head.triangle_part < head.part_names.index("mouth")])
    expression, joints = poses()
    for _ in range(5):
        identity = rng.normal(size=head.identity_count)
        vertices = head.vertices(identity, expression, joints)[:, skin]
        for centre in head.joint_positions(identity)[2:]:
            arm = vertices - centre
            deepest = np.where(arm[..., 2] > 0, np.linalg.norm(arm, axis=-1), 1).min()
            assert deepest > EYE_RADIUS - 0.0003


def test_a_blink_closes_everybodys_eyes(head: HeadModel) -> None:
    rng = np.random.default_rng(12)
    upper, lower = head.region("left_upper_lid")[1:-1], head.region("left_lower_lid")
    expression, joints = poses()
    closed = expression[:, EXPRESSION_NAMES.index("eyeBlinkLeft")] == 1
    assert closed.sum() == 8
    for _ in range(20):
        identity = rng.normal(size=head.identity_count)
        points = head.landmarks(head.vertices(identity, expression[closed], joints[closed]))
        centre = head.joint_positions(identity)[2]
        # Both margins lie on the ball and overlap: the upper one is not above the lower one.
        arm = points[:, upper] - centre
        on_ball = np.abs(arm[..., 0]) < 0.009
        assert np.abs(np.linalg.norm(arm, axis=-1) - EYE_RADIUS)[on_ball].max() < 0.001
        height = points[:, upper, 1] - points[:, lower, 1]
        assert height[on_ball].max() < 0.0003


def test_edges_of_closed_lids_lie_on_the_eyeball(head: HeadModel) -> None:
    rng = np.random.default_rng(13)
    expression, joints = poses()
    closed = expression[:, EXPRESSION_NAMES.index("eyeBlinkLeft")] == 1
    edges = border(head.triangles[head.triangle_part <= head.part_names.index("mouth")])
    rest = head.template[edges] - head.joint_centres[2]
    between = (rest[:, 0] > -0.0085) & (rest[:, 0] < 0.0105) & (rest[:, 2] > 0)
    edges = edges[between & (np.linalg.norm(rest, axis=1) < EYE_RADIUS + 0.002)]
    assert len(edges) >= 16
    for _ in range(20):
        identity = rng.normal(size=head.identity_count)
        vertices = head.vertices(identity, expression[closed], joints[closed])[:, edges]
        gap = np.linalg.norm(vertices - head.joint_positions(identity)[2], axis=-1) - EYE_RADIUS
        assert gap.max() < 0.0003 and gap.min() > 0


def test_settling_leaves_the_template_alone(head: HeadModel) -> None:
    assert head.lids is not None
    np.testing.assert_allclose(
        head.neutral(np.zeros(head.identity_count)), head.template, atol=1e-7
    )


def test_settling_takes_back_what_a_blink_overrules() -> None:
    class Weights:
        closure = np.array([1.0, 1.0, 0.0])
        contact = np.array([1.0, 0.0, 0.0])
        floor = np.full(3, 1.0)
        reach = np.array([1.0, 2.0, 2.0])

    rest = np.array([[0, 0, 1.0], [0, 0, 2.0], [0, 2.0, 0]])
    blinked, shift = np.array([[0, 0, 0.0], [0, -1.0, 0], [0, 0, 0]]), np.array([3.0, 0, 0])
    moved = (rest + blinked + [[0, 0.5, 0.5]] * 3)[None]
    got = settled(moved, rest, blinked, np.ones((1, 3)), np.zeros((3, 3)) + shift, shift, Weights)
    np.testing.assert_allclose(got[0, 1], rest[1] + blinked[1] + shift, atol=1e-9)
    np.testing.assert_allclose(got[0, 0], [3, 0, 1], atol=1e-9)
    np.testing.assert_allclose(got[0, 2], moved[0, 2], atol=1e-9)  # neither held nor sunk
    sunk = settled(rest[None] * 0.1, rest, blinked, np.zeros((1, 3)), np.zeros((3, 3)),
                   np.zeros(3), Weights)  # fmt: skip
    np.testing.assert_allclose(np.linalg.norm(sunk[0], axis=1), 1, atol=1e-6)


def test_a_head_without_lid_arrays_is_the_plain_sum(head: HeadModel) -> None:
    plain = replace(head, lids=None)
    identity = np.random.default_rng(3).normal(size=head.identity_count).astype(np.float32)
    expected = head.template + np.tensordot(identity, head.identity_basis, 1)
    np.testing.assert_allclose(plain.neutral(identity), expected, atol=1e-6)
    assert np.abs(head.neutral(identity) - expected).max() > 1e-5
