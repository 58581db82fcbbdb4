"""The parts of the fit against closed forms, dense algebra and finite differences."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from densefit.fit import initial, newton_step, so3, tridiagonal
from densefit.fit.camera_columns import camera_columns
from densefit.fit.camera_prior import CameraPrior, camera_prior
from densefit.fit.data import frames_to_solve
from densefit.fit.geometry import congruence
from densefit.fit.inverse import Inverse, ScoreCovariance, deviations
from densefit.fit.keyframes import choose_keyframes
from densefit.fit.landmark_model import PAIRS, gaze_values, landmark_model
from densefit.fit.landmark_term import collapse, project, projection, robust_residual
from densefit.fit.linearization import FrameTerms, Linearization, Planes
from densefit.fit.newton_step import Box, SchurComplement, solve_step
from densefit.fit.observations import landmark_region_weights, normalize_observations
from densefit.fit.options import EXPRESSION_SD, FitOptions
from densefit.fit.priors import (
    Priors,
    expression_deviations,
    expression_precision,
    eye_precision,
    make_priors,
)
from densefit.fit.products import products, symmetric_products
from densefit.fit.state import CameraState, FrameLayout
from densefit.fit.weights import facing_weight, landmark_normals
from densefit.head.model import EXPRESSION_NAMES
from densefit.head.rotation import continuous_axis_angle, rotation_matrix
from tests.fit.synthetic import camera_ring, observe, sample_truth, tiny_head

f8 = torch.float64


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=f8)


def test_rotation_log_inverts_exp_up_to_pi():
    r = random(50, 3)
    r = r / r.norm(dim=1, keepdim=True) * torch.linspace(0, math.pi - 1e-6, 50, dtype=f8)[:, None]
    torch.testing.assert_close(so3.log(so3.exp(r)), r, atol=1e-7, rtol=0)


def test_left_jacobian_is_the_derivative_of_exp():
    r, d = random(20, 3), 1e-6 * random(20, 3, seed=1)
    r[0] = 0
    moved = so3.exp((so3.left_jacobian(r) @ d[..., None])[..., 0]) @ so3.exp(r)
    torch.testing.assert_close(so3.exp(r + d), moved, atol=1e-11, rtol=0)


def test_axis_angle_stays_continuous_through_full_turns():
    angles = np.linspace(0, 9, 200)
    axis = np.array([0.6, 0.0, 0.8])
    vectors = continuous_axis_angle(rotation_matrix(angles[:, None] * axis))
    np.testing.assert_allclose(vectors, angles[:, None] * axis, atol=1e-6)


def symmetric(six: torch.Tensor) -> torch.Tensor:
    out = torch.zeros(*six.shape[:-1], 3, 3, dtype=six.dtype)
    for n, (i, j) in enumerate(PAIRS):
        out[..., i, j] = out[..., j, i] = six[..., n]
    return out


def test_congruence():
    a, six = random(4, 3, 3), random(4, 6, seed=1)
    got = symmetric((congruence(a) @ six[..., None])[..., 0])
    torch.testing.assert_close(got, a.mT @ symmetric(six) @ a)


def dense(diagonal, link, weights, keep=None):
    count, size = diagonal.shape[:2]
    full = torch.block_diag(*diagonal)
    for t, w in enumerate(weights):
        a, b = slice(t * size, (t + 1) * size), slice((t + 1) * size, (t + 2) * size)
        full[a, b] = full[b, a] = -w * link
    return full


def chain(count=5, size=4):
    a = random(count, size, size)
    link = torch.eye(size, dtype=f8) + 0.1 * torch.ones(size, size, dtype=f8)
    weights = torch.tensor([1.0, 0.0, 2.0, 0.5], dtype=f8)
    diagonal = a @ a.mT + 8 * torch.eye(size, dtype=f8)
    return diagonal, link, weights


@pytest.mark.parametrize("factorize", [tridiagonal.factorize, tridiagonal.factorize_blocks])
def test_tridiagonal_factor_equals_dense(factorize):
    diagonal, link, weights = chain()
    full = dense(diagonal, link, weights)
    factor = factorize(diagonal, link, weights)
    right = random(5, 4, 3)
    x = tridiagonal.backward(factor, tridiagonal.forward(factor, right))
    torch.testing.assert_close(x.reshape(20, 3), torch.linalg.solve(full, right.reshape(20, 3)))
    inverse = torch.linalg.inv(full).diagonal().reshape(5, 4)
    torch.testing.assert_close(tridiagonal.inverse_diagonal(factor), inverse)
    v = random(5, 4)
    alone = tridiagonal.solve(factor, v)
    torch.testing.assert_close(alone.flatten(), torch.linalg.solve(full, v.flatten()))
    with pytest.raises(tridiagonal.NotPositiveDefinite):
        factorize(-diagonal, link, weights)


def bordered(count=5, size=4, border=3):
    diagonal, link, weights = chain(count, size)
    cross = 0.3 * random(count, size, border, seed=2)
    system = Linearization(
        cost=0.0, gradient=random(count, size, seed=3), diagonal=diagonal,
        border_gradient=random(border, seed=4), border=8 * torch.eye(border, dtype=f8), cross=cross,
        terms=FrameTerms(torch.zeros(count), torch.zeros(count, size), torch.zeros_like(diagonal)),
    )  # fmt: skip
    known = camera_prior(camera_ring(1), FitOptions())
    flat = torch.zeros(size, size, dtype=f8)
    priors = Priors(flat, flat[0], link, weights, 1.0, known)
    full = torch.zeros(count * size + border, count * size + border, dtype=f8)
    n = count * size
    full[:n, :n] = dense(diagonal, link, weights)
    full[:n, n:] = cross.reshape(n, border)
    full[n:, :n] = full[:n, n:].T
    full[n:, n:] = system.border
    return system, priors, full


def test_step_and_deviations_equal_dense():
    system, priors, full = bordered()
    free = torch.full_like(system.gradient, math.inf)
    step = solve_step(system, priors, Box(-free, free), 0.0, None)
    gradient = torch.cat([system.gradient.flatten(), system.border_gradient])
    expected = -torch.linalg.solve(full, gradient)
    got = torch.cat([step.frames.flatten(), step.border])
    torch.testing.assert_close(got, expected, rtol=1e-6, atol=1e-8)
    spread = deviations(system, priors)
    got = torch.cat([spread.frames.flatten(), spread.border])
    torch.testing.assert_close(got, torch.linalg.inv(full).diagonal().sqrt(), rtol=1e-6, atol=1e-8)


def test_a_strongly_curved_unknown_of_the_border_holds_no_other():
    """Angles of a camera and identities differ in curvature by ten orders of magnitude."""
    system, priors, full = bordered()
    scale = torch.tensor([1.0, 1.0, 1e5], dtype=f8)
    stiff = torch.outer(scale, scale) * system.border
    system = replace(system, cross=system.cross * scale, border=stiff)
    spread = deviations(system, priors)
    expected = torch.linalg.inv(full).diagonal()[-3:].sqrt() / scale
    torch.testing.assert_close(spread.border, expected, rtol=1e-6, atol=0.0)


def test_sandwich_equals_dense():
    system, priors, full = bordered()
    frames = system.diagonal.shape[0] * system.diagonal.shape[1]
    own, other = random(5, 4, 9, seed=6), random(3, 9, seed=7)
    blocks = own @ own.mT
    none = torch.zeros(5, 4, 1, dtype=f8), torch.zeros(3, 1, dtype=f8)
    score = ScoreCovariance(blocks, own @ other.T, 5 * other @ other.T, *none)
    matrix = torch.zeros_like(full)
    matrix[:frames, :frames] = dense(blocks, priors.link, priors.link_weights)
    matrix[:frames, frames:] = score.cross.reshape(frames, 3)
    matrix[frames:, :frames] = matrix[:frames, frames:].T
    matrix[frames:, frames:] = score.border
    inverse = torch.linalg.inv(full)
    expected = inverse @ matrix @ inverse
    variance, border = Inverse.of(system, priors).sandwich(score, 1e-4)
    torch.testing.assert_close(variance.flatten(), expected.diagonal()[:frames], rtol=1e-5, atol=0)
    torch.testing.assert_close(border, expected[frames:, frames:], rtol=1e-6, atol=1e-9)


def test_bounded_step_solves_the_box_problem(monkeypatch):
    """Against projected gradient descent on the same quadratic."""
    monkeypatch.setattr(newton_step, "CLOSE_ENOUGH", 1e-9)
    system, priors, full = bordered()
    low = torch.full_like(system.gradient, -math.inf)
    high = torch.full_like(low, math.inf)
    low[:, :2], high[:, :2] = -0.02, 0.03
    step = solve_step(system, priors, Box(low, high), 0.0, None, passes=12)
    gradient = torch.cat([system.gradient.flatten(), system.border_gradient])
    edge = torch.full_like(system.border_gradient, math.inf)
    lows, highs = torch.cat([low.flatten(), -edge]), torch.cat([high.flatten(), edge])
    x = torch.zeros_like(gradient)
    rate = 1 / torch.linalg.eigvalsh(full).max()
    for _ in range(4000):
        x = (x - rate * (gradient + full @ x)).clamp(lows, highs)
    got = torch.cat([step.frames.flatten(), step.border])
    torch.testing.assert_close(got, x, rtol=1e-6, atol=1e-7)
    assert step.active.any()


@pytest.mark.parametrize("gradients", [0, 60])
def test_a_factor_of_another_schur_complement_solves(gradients, monkeypatch):
    """By conjugate gradients from it, or, where those take too many, by a factor of its own."""
    monkeypatch.setattr(newton_step, "MAX_GRADIENTS", gradients)
    monkeypatch.setattr(newton_step, "CLOSE_ENOUGH", 1e-9)
    system, priors, full = bordered()
    factor = tridiagonal.factorize(system.diagonal, priors.link, priors.link_weights)
    exact = SchurComplement.of(system, 0.0, factor)
    near = replace(exact, lower=torch.diag(torch.tensor([2.0, 3.0, 4.0], dtype=f8)), exact=False)
    right = random(3, seed=9)
    inverse = torch.linalg.inv(full)[-3:, -3:]
    torch.testing.assert_close(exact.solve(right), inverse @ right, rtol=1e-6, atol=0)
    torch.testing.assert_close(near.solve(right), inverse @ right, rtol=1e-5, atol=0)


def test_half_of_a_symmetric_product_is_enough():
    a = random(7, 4, 10)
    b = random(7, 4, 1, seed=1) * a
    torch.testing.assert_close(symmetric_products(a, b), products(a, b))


def camera_pair() -> CameraState:
    transforms = torch.tensor(np.stack([c.T_camera_world for c in camera_ring(2)]))
    return CameraState(
        transforms[:, :3, :3], transforms[:, :3, 3], torch.tensor([0.1, -0.2], dtype=f8),
        (True, False), (False, True),
    )  # fmt: skip


def test_collapse_equals_the_sum_over_cameras():
    cameras = camera_pair()
    points = 0.05 * random(1, 3, 7)
    xy = 0.1 * random(1, 2, 2, 7, seed=1)
    precision = 1e4 * torch.rand(1, 2, 7, dtype=f8)
    view = projection(cameras.matrices, f8)
    residual = robust_residual(project(view, points), xy, precision, 4.0, 0.5)
    information, gradient = collapse(view, residual)
    x = points.clone().requires_grad_(True)
    robust_residual(project(view, x), xy, precision, 4.0, 0.5).cost.sum().backward()
    torch.testing.assert_close(gradient, x.grad)
    expected = torch.zeros(7, 3, 3, dtype=f8)
    for c in range(2):
        for k in range(7):
            jacobian = torch.autograd.functional.jacobian(
                lambda p, c=c: (
                    project(view, p.reshape(1, 3, 1))[0, :2, c, 0]
                    / project(view, p.reshape(1, 3, 1))[0, 2, c, 0]
                ),
                points[0, :, k],
            )
            expected[k] += residual.slope[0, c, k] * jacobian.T @ jacobian
    torch.testing.assert_close(symmetric(information[0].T), expected)


def test_points_behind_a_camera_cost_most_and_pull_nothing():
    view = projection(camera_pair().matrices, f8)
    behind = 5 * torch.tensor([[0.0], [0.0], [1.0]], dtype=f8)[None].repeat(1, 1, 3)
    xy, precision = torch.zeros(1, 2, 2, 3, dtype=f8), torch.full((1, 2, 3), 1e6, dtype=f8)
    residual = robust_residual(project(view, behind), xy, precision, 4.0)
    torch.testing.assert_close(residual.cost, torch.full_like(residual.cost, 3 * 8.0))
    assert not collapse(view, residual)[1].any()


def test_camera_columns_agree_with_finite_differences():
    """The gradient by extrinsics and focal length; the matrix is checked in test_linearization."""
    from densefit.fit.geometry import person, pose_landmarks, rotations
    from densefit.fit.state import move_cameras, rest

    head = tiny_head()
    model = landmark_model(head, f8)
    cameras = camera_pair()
    motion = rest(so3.exp(0.2 * random(2, 3)), 0.01 * random(2, 3))
    whose = person(model, torch.zeros(model.modes, dtype=f8))
    posed = pose_landmarks(model, whose, motion, rotations(motion))
    xy = 0.05 * random(2, 2, 2, 90)
    precision = torch.full((2, 2, 90), 1e4, dtype=f8)

    def residual(step):
        view = projection(move_cameras(cameras, step).matrices, f8)
        return robust_residual(project(view, posed.world), xy, precision, 4.0)

    zero = torch.zeros(cameras.unknowns, dtype=f8)
    got = camera_columns(cameras, residual(zero), posed).gradient
    for i in range(len(zero)):
        step = zero.clone()
        step[i] = 1e-6
        slope = (residual(step).cost.sum() - residual(-step).cost.sum()) / 2e-6
        assert float(got[i]) == pytest.approx(float(slope), rel=1e-4, abs=1e-2)


def test_gaze_is_the_heads_own_function():
    head = tiny_head()
    model = landmark_model(head, f8)
    eyes = 0.8 * random(30, 4)
    joints = np.zeros((30, 4, 3))
    joints[:, 2, :2], joints[:, 3, :2] = eyes[:, :2], eyes[:, 2:]
    values, slope = gaze_values(model, eyes)
    expected = head.gaze_expression(joints)[:, model.gaze.numpy()]
    np.testing.assert_allclose(values.numpy(), expected, atol=1e-6)
    step = 1e-6 * random(30, 4, seed=1)
    change = gaze_values(model, eyes + step)[0] - values
    torch.testing.assert_close(change, (slope @ step[..., None])[..., 0], atol=1e-10, rtol=1e-3)


def test_triangulation_and_procrustes_survive_wrong_landmarks():
    head = tiny_head()
    cameras = camera_ring(4)
    truth = sample_truth(head, 3)
    truth = replace(
        truth, identity=0 * truth.identity, expression=0 * truth.expression, joints=0 * truth.joints
    )
    observations = observe(head, cameras, truth, 0.2, outliers=0.02)
    flat = normalize_observations(observations, cameras, np.ones(90), 0.0)
    planes = Planes(torch.tensor(np.moveaxis(flat.xy, 3, 1)), torch.tensor(flat.precision))
    matrices = torch.tensor(np.stack([c.T_camera_world[:3] for c in cameras]))
    points, rests_on = initial.triangulate(planes, matrices, [0, 1, 2, 3])
    assert (rests_on == 4).all()
    error = np.linalg.norm(points.mT.numpy() - truth.world_landmarks(head), axis=2)
    assert np.median(error) < 3e-4
    source = torch.tensor(head.landmarks(head.template).T.astype(float))
    rotation, shift = initial.procrustes(source, points, torch.ones(3, 90, dtype=f8))
    np.testing.assert_allclose(rotation.numpy(), rotation_matrix(truth.rotation), atol=5e-3)
    np.testing.assert_allclose(shift.numpy(), truth.translation, atol=5e-4)


def test_expression_priors():
    sd = dict(zip(EXPRESSION_NAMES, expression_deviations(EXPRESSION_SD), strict=True))
    assert sd["eyeBlinkRight"] == sd["eyeBlinkLeft"] == EXPRESSION_SD["eyeBlink"]
    assert sd["jawLeft"] == EXPRESSION_SD["jawLeft"]
    assert sd["mouthRight"] == EXPRESSION_SD["mouthRight"]
    used = {n for n in EXPRESSION_NAMES if "eyeLook" not in n}
    plain = {n.removesuffix("Left").removesuffix("Right") for n in used}
    assert set(EXPRESSION_SD) <= plain | used, "the table names a shape that does not exist"
    precision = expression_precision(FitOptions(asymmetry_sd=0.1, expression_weight=1.0))
    left, right = (
        EXPRESSION_NAMES.index("mouthSmileLeft"),
        EXPRESSION_NAMES.index("mouthSmileRight"),
    )
    value = torch.zeros(52, dtype=f8)
    value[left], value[right] = 0.5, 0.3
    expected = (0.5**2 + 0.3**2) / EXPRESSION_SD["mouthSmile"] ** 2 + 0.2**2 / 0.1**2
    assert float(value @ precision @ value) == pytest.approx(expected)
    assert (
        float(precision[EXPRESSION_NAMES.index("jawLeft"), EXPRESSION_NAMES.index("jawRight")]) == 0
    )


def test_single_expressions_are_smoothed():
    """Beside the motion of the mesh, to which shapes that cancel one another are nothing."""
    model = landmark_model(tiny_head(), f8)
    options = FitOptions(expression_rate=0.8, blink_rate=3.0, temporal_weight=2.0)
    time = torch.tensor([0.0, 0.1], dtype=f8)
    none = torch.zeros(0, dtype=f8)
    cameras = CameraPrior(none.view(0, 3, 3), none.view(0, 3), none, none, none, none, none)
    priors = make_priors(model, options, time, 2, cameras)
    place = {EXPRESSION_NAMES[k]: i for i, k in enumerate(model.free.tolist())}
    change = torch.zeros(FrameLayout(len(model.free)).size, dtype=f8)
    change[place["browInnerUp"]], change[place["eyeBlinkLeft"]] = 0.3, -0.5
    found = float(priors.link_weights[0] * (change @ priors.link @ change))
    moved = change[: len(model.free)]
    gram = model.vertex_gram[model.free][:, model.free]
    mesh = float(moved @ gram @ moved) / options.shape_rate**2
    expected = 2.0 * (mesh + 0.3**2 / 0.8**2 + 0.5**2 / 3.0**2) / 0.1
    assert found == pytest.approx(expected, rel=1e-4)


def test_eye_prior_lets_both_eyes_turn_together():
    precision = eye_precision(FitOptions())
    together = torch.tensor([0.2, 0.3, 0.2, 0.3], dtype=f8)
    apart = torch.tensor([0.2, 0.3, -0.2, -0.3], dtype=f8)
    assert float(together @ precision @ together) == pytest.approx((0.2 / 0.3) ** 2 + 1)
    assert float(apart @ precision @ apart) > 50


def test_gaps_are_bridged_up_to_the_limit():
    time = np.array([0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.9])
    seen = np.array([1, 1, 0, 1, 0, 0, 1], bool)
    np.testing.assert_array_equal(frames_to_solve(seen, time, FitOptions()), [0, 1, 2, 3, 6])
    alone = FitOptions(independent_frames=True)
    np.testing.assert_array_equal(frames_to_solve(seen, time, alone), [0, 1, 3, 6])


def test_keyframes_cover_views_and_skip_bad_poses():
    yaw = np.r_[np.zeros(500), np.linspace(0, 1, 20)]
    rotation = rotation_matrix(np.stack([0 * yaw, yaw, 0 * yaw], 1))
    score = np.full(520, 0.1)
    score[:50], score[60] = 0.9, np.nan
    chosen = choose_keyframes(rotation, np.arange(520) / 30, score, 40)
    assert len(chosen) == 40 and (np.diff(chosen) > 0).all()
    assert chosen.min() >= 50 and 60 not in chosen
    assert (chosen >= 500).sum() >= 8, "few frames that look elsewhere tell more than many alike"


def test_hidden_side_counts_less():
    head = tiny_head()
    normals = np.zeros((90, 3))
    normals[:45, 2], normals[45:, 2] = 1, -1
    camera = camera_pair()
    weight = facing_weight(
        torch.zeros(3, 90, dtype=f8), torch.tensor(normals.T), camera,
        torch.eye(3, dtype=f8)[None], torch.zeros(1, 3, dtype=f8), 0.1,
    )  # fmt: skip
    torch.testing.assert_close(weight[:, :, :45], torch.ones(1, 2, 45, dtype=f8))
    torch.testing.assert_close(weight[:, :, 45:], torch.full((1, 2, 45), 0.1, dtype=f8))
    np.testing.assert_allclose(np.linalg.norm(landmark_normals(head), axis=1), 1, atol=1e-6)


def test_region_weights_go_by_name():
    head = replace(
        tiny_head(), region_names=("left_ear", "nose"), landmark_region=np.arange(90) % 2
    )
    weights = landmark_region_weights(head, FitOptions(region_weights={"ear": 0.25}))
    np.testing.assert_array_equal(weights, np.where(np.arange(90) % 2, 1.0, 0.25))


def test_distortion_is_removed_with_its_local_scale():
    camera = replace(camera_ring(1)[0], dist=np.array([-0.3, 0.1, 0, 0]))
    head = tiny_head()
    truth = sample_truth(head, 2)
    observations = observe(head, [camera], truth, 1e-4)
    flat = normalize_observations(observations, [camera], np.ones(90), 0.0)
    transform = camera.T_camera_world
    local = truth.world_landmarks(head) @ transform[:3, :3].T + transform[:3, 3]
    np.testing.assert_allclose(flat.xy[:, 0], local[..., :2] / local[..., 2:], atol=2e-6)
    sigma = flat.precision[:, 0] ** -0.5
    np.testing.assert_allclose(sigma, observations.sigma[:, 0] / camera.K[0, 0], rtol=0.1)
