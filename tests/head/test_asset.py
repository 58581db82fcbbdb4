"""The shipped head asset: anatomy, symmetry, landmarks, and numpy against torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from densefit.errors import InputError
from densefit.head import EXPRESSION_NAMES, HeadModel, load_head
from densefit.head.model import DEFAULT_ASSET
from densefit.head.rotation import axis_angle, rotation_matrix, torch_rotation_matrix
from densefit.head.torch_model import TorchHead

FLIP = np.array([-1.0, 1.0, 1.0], np.float32)


@pytest.fixture(scope="module")
def head() -> HeadModel:
    return load_head()


def eye_vertices(head: HeadModel, joint: int) -> np.ndarray:
    return np.flatnonzero(head.skinning[:, joint] > 0.5)


def test_layout_of_the_asset(head: HeadModel) -> None:
    count = len(head.template)
    assert head.landmark_vertices.shape == head.landmark_weights.shape == (703, 3)
    assert head.face320.shape == (320,) and len(np.unique(head.face320)) == 320
    assert head.ibug68.shape == (68,) and len(np.unique(head.ibug68)) == 68
    assert head.triangles.min() == 0 and head.triangles.max() < count
    assert head.uv_triangles.shape == head.triangles.shape
    assert head.uv_triangles.max() < len(head.uv)
    assert head.triangle_part.max() < len(head.part_names)
    np.testing.assert_allclose(head.skinning.sum(1), 1, atol=1e-6)
    np.testing.assert_allclose(head.landmark_weights.sum(1), 1, atol=1e-5)
    assert set(np.unique(head.landmark_region)) == set(range(len(head.region_names)))


def test_landmarks_version_is_the_hash_of_what_it_names(head: HeadModel) -> None:
    from densefit.head.build.placement import Landmarks

    marks = Landmarks(
        head.landmark_vertices, head.landmark_weights, head.landmark_region, head.region_names,
        head.face320, head.ibug68, head.mirror_landmarks,
    )  # fmt: skip
    with np.load(DEFAULT_ASSET) as archive:
        rest = archive["landmark_rest"]
    assert marks.version(rest) == head.landmarks_version
    assert marks.version(rest + np.float32(1e-5)) != head.landmarks_version


def test_template_is_symmetric(head: HeadModel) -> None:
    np.testing.assert_allclose(head.template[head.mirror_vertices] * FLIP, head.template, atol=2e-5)
    landmarks = head.landmarks(head.template)
    np.testing.assert_allclose(landmarks[head.mirror_landmarks] * FLIP, landmarks, atol=3e-4)
    assert (head.mirror_landmarks[head.mirror_landmarks] == np.arange(703)).all()


def test_ibug_points_lie_where_ibug_says(head: HeadModel) -> None:
    points = head.landmarks(head.template)[head.ibug68] * 1e3
    assert points[0, 0] < -60 and points[16, 0] > 60  # jaw from the subject's right to the left
    assert points[36, 0] < points[39, 0] < 0 < points[42, 0] < points[45, 0]
    assert points[17:22, 1].min() > points[37:39, 1].max()  # brows above lids
    assert points[48, 0] < points[54, 0] and points[51, 1] > points[57, 1]
    assert points[62, 1] > points[66, 1]
    assert points[30, 2] == points[:, 2].max()  # the tip of the nose is foremost
    assert 85 < np.linalg.norm(points[45] - points[36]) < 95  # outer canthi, millimetres


def test_eyeballs_are_anatomical_and_turn_rigidly(head: HeadModel) -> None:
    joints = np.zeros((1, 4, 3), np.float32)
    joints[0, 2:] = [0.2, 0.3, 0]
    turned = head.vertices(np.zeros(head.identity_count), np.zeros((1, 52)), joints)[0]
    for joint in (2, 3):
        ball, centre = eye_vertices(head, joint), head.joint_centres[joint]
        for vertices in (head.template, turned):
            radius = np.linalg.norm(vertices[ball] - centre, axis=1)
            np.testing.assert_allclose(radius, 0.012, atol=2e-5)
    assert abs(head.joint_centres[2:].mean(0)).max() < 1e-6  # the origin of the head frame
    pole = head.region("left_iris")[-1]
    gaze = head.landmarks(turned)[pole] - head.joint_centres[2]
    np.testing.assert_allclose(gaze, rotation_matrix(joints[0, 2]) @ [0, 0, 0.012], atol=3e-5)


def test_no_skin_in_the_eyeballs_at_rest_and_when_blinking(head: HeadModel) -> None:
    skin = np.unique(head.triangles[head.triangle_part < head.part_names.index("mouth")])
    blink = head.expression_basis[EXPRESSION_NAMES.index("eyeBlinkLeft")]
    for vertices in (head.template, head.template + blink):
        arm = vertices[skin] - head.joint_centres[2]
        in_front = arm[:, 2] > 0
        assert np.linalg.norm(arm[in_front], axis=1).min() > 0.012 - 0.0003


def test_the_neck_turns_neither_face_nor_skull(head: HeadModel) -> None:
    names = ("jaw", "lips_outer_lower", "face_middle", "left_face", "left_scalp", "left_ear")
    own = head.skinning[head.landmark_vertices, 0].max(1)
    for name in names[:2]:
        assert own[head.region(name)].max() < 1e-6, name
    for name in names[2:]:
        assert np.median(own[head.region(name)]) < 1e-6, name
    assert own[head.region("left_neck")].max() > 0.9


def test_opening_the_jaw_takes_lower_teeth_and_tongue_along(head: HeadModel) -> None:
    jaw = head.expression_basis[EXPRESSION_NAMES.index("jawOpen")]
    moved = head.landmarks(jaw)
    assert moved[head.region("left_lower_teeth"), 1].max() < -0.005
    assert np.abs(moved[head.region("left_upper_teeth")]).max() < 0.001
    assert moved[head.region("tongue"), 1].mean() < -0.003


def test_the_gaze_moves_the_lids(head: HeadModel) -> None:
    joints = np.zeros((2, 4, 3))
    joints[0, 2:, 0] = head.lid_limits[0]  # look down
    joints[1, 2:, 1] = 2 * head.lid_limits[1]  # look far to the subject's left
    values = head.gaze_expression(joints)
    index = EXPRESSION_NAMES.index
    assert values[0, index("eyeLookDownLeft")] == values[0, index("eyeLookDownRight")] == 1
    assert values[1, index("eyeLookOutLeft")] == values[1, index("eyeLookInRight")] == 1
    assert values.sum() == 4
    lids = head.region("left_upper_lid")
    down = head.vertices(np.zeros(head.identity_count), np.zeros((2, 52)), joints)[0]
    assert (head.landmarks(down) - head.landmarks(head.template))[lids, 1].mean() < -0.001


def test_torch_twin_agrees(head: HeadModel) -> None:
    rng = np.random.default_rng(0)
    identity = rng.normal(size=head.identity_count).astype(np.float32)
    expression = rng.uniform(0, 1, (3, 52)).astype(np.float32)
    joints = rng.normal(0, 0.2, (3, 4, 3)).astype(np.float32)
    joints[:, 1] = 0
    expected = head.vertices(identity, expression, joints)
    twin = TorchHead(head)
    got = twin.vertices(
        torch.tensor(identity).expand(3, -1), torch.tensor(expression), torch.tensor(joints)
    )
    np.testing.assert_allclose(got.numpy(), expected, atol=2e-6)
    np.testing.assert_allclose(twin.landmarks(got).numpy(), head.landmarks(expected), atol=2e-6)


def test_rotations_agree_with_scipy_and_invert() -> None:
    from scipy.spatial.transform import Rotation

    vectors = np.random.default_rng(1).normal(0, 0.6, size=(20, 3))
    vectors[0] = 0
    vectors[1] *= 1e-6
    expected = Rotation.from_rotvec(vectors).as_matrix()
    np.testing.assert_allclose(rotation_matrix(vectors), expected, atol=1e-12)
    np.testing.assert_allclose(
        torch_rotation_matrix(torch.tensor(vectors)).numpy(), expected, atol=1e-12
    )
    np.testing.assert_allclose(axis_angle(expected), vectors, atol=1e-7)


def test_prior_has_human_proportions(head: HeadModel) -> None:
    """Against ANSUR II (Gordon et al. 2014; 4,082 men and 1,986 women), mean and deviation in mm:
    interpupillary breadth 63.3, 3.7; menton-sellion length 119.5, 7.9; head breadth 152.2, 6.2."""
    rng = np.random.default_rng(2)
    middle = np.abs(head.template[:, 0]) < 5e-4
    bridge = middle & (np.abs(head.template[:, 1] - 0.006) < 8e-3) & (head.template[:, 2] > 0)
    bridge = np.flatnonzero(bridge)
    chin = head.landmark_vertices[head.ibug68[8], 0]
    above_ears = np.unique(head.triangles[head.part_triangles("skin", "scalp")])
    above_ears = above_ears[head.template[above_ears, 1] > -0.01]
    sizes = []
    for _ in range(600):
        identity = rng.normal(size=head.identity_count)
        person, centres = head.neutral(identity), head.joint_positions(identity)
        sellion = person[bridge[np.argmin(person[bridge, 2])]]
        sizes.append([
            np.linalg.norm(centres[2] - centres[3]), np.linalg.norm(sellion - person[chin]),
            np.ptp(person[above_ears, 0]),
        ])  # fmt: skip
    mean, spread = 1e3 * np.mean(sizes, 0), 1e3 * np.std(sizes, 0)
    np.testing.assert_allclose(mean, [63.3, 119.5, 152.2], atol=2)
    np.testing.assert_allclose(spread, [3.7, 7.9, 6.2], atol=1.6)


def test_damaged_assets_are_refused(tmp_path: Path) -> None:
    broken = tmp_path / "head.npz"
    broken.write_bytes(b"not a head")
    with pytest.raises(InputError, match="head.npz"):
        load_head(broken)
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    with pytest.raises(InputError, match="lacks"):
        load_head(tmp_path / "other.npz")
    with pytest.raises(InputError, match="missing.npz"):
        load_head(tmp_path / "missing.npz")
