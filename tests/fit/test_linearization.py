"""Cost, gradient and second derivatives against autograd on a plain second writing of the
energy."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from densefit.fit.bias import with_bias
from densefit.fit.camera_prior import CameraPrior, camera_prior_term
from densefit.fit.landmark_model import along, landmark_model
from densefit.fit.linearization import LossSettings, Planes, linearize, relinearize
from densefit.fit.options import FitOptions
from densefit.fit.priors import Outward, make_priors
from densefit.fit.state import CameraState, Motion, State, move
from tests.fit.reference_energy import ReferenceEnergy, rotation
from tests.fit.synthetic import tiny_head

FRAMES, CAMERAS, MODES = 4, 2, 5
f8 = torch.float64


@pytest.fixture(scope="module")
def head():
    return tiny_head(modes=MODES, landmarks=60)


def make_problem(head, seed=0, free_cameras=True, still_eyes=False, noise=0.02, bias=0):
    """A state in the middle of nowhere, with every term at work; `bias` modes of the network's."""
    g = torch.Generator().manual_seed(seed)
    normal = lambda *s: torch.randn(*s, generator=g, dtype=f8)  # noqa: E731
    model = landmark_model(head, f8)
    cameras = CameraState(
        rotation=rotation(0.3 * normal(CAMERAS, 3)),
        translation=0.1 * normal(CAMERAS, 3) + torch.tensor([0, 0, 1.0], dtype=f8),
        log_focal=0.1 * normal(CAMERAS),
        free_focal=(True, False) if free_cameras else (False, False),
        free_extrinsics=(False, True) if free_cameras else (False, False),
    )
    eyes = 0.0 * normal(FRAMES, 4) if still_eyes else 0.3 * normal(FRAMES, 4)
    free = torch.rand(FRAMES, 52, generator=g, dtype=f8)
    motion = Motion(
        free,
        rotation(0.4 * normal(FRAMES, 3)),
        0.02 * normal(FRAMES, 3),
        0.2 * normal(FRAMES, 3),
        eyes,
    )
    state = State(normal(MODES + bias), motion, cameras)
    time = torch.tensor([0.0, 0.03, 0.07, 1.0], dtype=f8)
    options = FitOptions(correlation=3.0, identity_frames=2.0)
    known = CameraPrior(
        rotation(0.1 * normal(CAMERAS, 3)) @ cameras.rotation,
        cameras.translation + 0.02 * normal(CAMERAS, 3),
        torch.tensor([math.inf, 0.05], dtype=f8), torch.tensor([math.inf, 0.01], dtype=f8),
        0.2 * normal(CAMERAS), torch.full((CAMERAS,), 0.3, dtype=f8),
        torch.tensor([7.0, 0.0], dtype=f8),
    )  # fmt: skip
    outward = Outward(torch.tensor([9.0, 0, 20, 5], dtype=f8), torch.tensor([0.1, 0, 0.9]).double())
    priors = replace(make_priors(model, options, time, FRAMES, known), outward=outward)
    zero = torch.zeros(FRAMES, len(model.free) + 13, dtype=f8)
    state = move(model, state, zero, None, torch.zeros(cameras.unknowns, dtype=f8))
    landmarks = model.template.shape[1]
    reference = ReferenceEnergy(head, state.motion.rotation, cameras, None, None, priors, 4.0, 3.0)
    if bias:
        length = torch.full((landmarks,), 2e-3, dtype=f8)
        model = with_bias(model, normal(landmarks, 3, bias), length, priors.identity_weight)
        reference.add_bias(model)
    frames0 = torch.cat(
        [motion.expression[:, model.free], 0 * zero[:, :3], motion.translation, motion.neck, eyes],
        1,
    )
    with torch.no_grad():
        world = reference.world(state.identity, frames0)
        xy = []
        for c in range(CAMERAS):
            local = world @ cameras.rotation[c].mT + cameras.translation[c]
            xy.append(cameras.log_focal[c].exp() * local[..., :2] / local[..., 2:])
    reference.xy = torch.stack(xy, 1) + noise * normal(FRAMES, CAMERAS, landmarks, 2)
    reference.precision = 1e4 * torch.rand(FRAMES, CAMERAS, landmarks, generator=g, dtype=f8)
    reference.precision[1, 0] = 0
    planes = Planes(reference.xy.permute(0, 3, 1, 2).contiguous(), reference.precision)
    return model, planes, priors, state, reference, frames0


def flat_energy(reference, identity, frames0, cameras_count):
    sizes = [len(identity), frames0.numel(), cameras_count]

    def energy(x, part="all"):
        i, f, c = x.split(sizes)
        function = {"all": reference, "landmarks": reference.landmarks}[part]
        return function(i, f.reshape(frames0.shape), c)

    start = torch.cat([identity, frames0.reshape(-1), torch.zeros(cameras_count, dtype=f8)])
    return energy, start


@pytest.mark.parametrize("bias", [0, 3])
def test_cost_and_gradient_equal_autograd(head, bias):
    model, planes, priors, state, reference, frames0 = make_problem(head, bias=bias)
    modes = MODES + bias
    system = linearize(model, planes, priors, state, LossSettings(4.0, 3.0, False, 3), True)
    energy, start = flat_energy(reference, state.identity, frames0, state.cameras.unknowns)
    x = start.clone().requires_grad_(True)
    cost = energy(x)
    cost.backward()
    assert system.cost == pytest.approx(float(cost.detach()), rel=1e-7)
    ours = torch.cat(
        [
            system.border_gradient[:modes],
            system.gradient.reshape(-1),
            system.border_gradient[modes:],
        ]
    )
    torch.testing.assert_close(ours, x.grad, rtol=1e-6, atol=1e-6 * float(x.grad.abs().max()))


@pytest.mark.parametrize(("still_eyes", "bias"), [(True, 0), (False, 3)])
def test_gauss_newton_matrix_equals_autograd_without_noise(head, still_eyes, bias):
    """At zero residual the Gauss-Newton matrix is the exact Hessian where the neck does not turn:
    eyeballs are rigid, and what landmarks are seen beside them turns with no eye."""
    model, planes, priors, state, reference, frames0 = make_problem(
        head, still_eyes=still_eyes, noise=0.0, bias=bias
    )
    modes, motion = MODES + bias, state.motion
    still = Motion(
        motion.expression, motion.rotation, motion.translation, 0 * motion.neck, motion.eyes
    )
    state = State(state.identity, still, state.cameras)
    frames0 = frames0.clone()
    frames0[:, len(model.free) + 6 : len(model.free) + 9] = 0
    with torch.no_grad():
        world = reference.world(state.identity, frames0)
        local = [
            world @ state.cameras.rotation[c].mT + state.cameras.translation[c]
            for c in range(CAMERAS)
        ]
        xy = [
            state.cameras.log_focal[c].exp() * p[..., :2] / p[..., 2:] for c, p in enumerate(local)
        ]
    reference.xy = torch.stack(xy, 1)
    planes = Planes(reference.xy.permute(0, 3, 1, 2).contiguous(), planes.precision)
    system = linearize(model, planes, priors, state, LossSettings(4.0, 3.0, False, 3), True)
    energy, start = flat_energy(reference, state.identity, frames0, state.cameras.unknowns)
    hessian = torch.autograd.functional.hessian(lambda x: energy(x, "landmarks"), start)
    size, unknowns = frames0.shape[1], state.cameras.unknowns
    at = modes + size * np.arange(FRAMES + 1)
    from densefit.fit.priors import motion_prior_diagonal

    ours = system.diagonal - motion_prior_diagonal(priors, FRAMES)
    border = torch.cat([torch.arange(modes), torch.arange(len(start) - unknowns, len(start))])
    # Lids have a kink at straight gaze: autograd takes one side, so leave the eyes out of the
    # comparison.
    keep = torch.arange(size - 4)
    for t in range(FRAMES):
        block = hessian[at[t] : at[t + 1], at[t] : at[t + 1]]
        torch.testing.assert_close(
            ours[t][keep][:, keep], block[keep][:, keep], rtol=1e-6, atol=1e-3
        )
        cross = hessian[at[t] : at[t + 1]][:, border]
        torch.testing.assert_close(system.cross[t][keep], cross[keep], rtol=1e-6, atol=1e-3)
    expected = hessian[border][:, border] + torch.diag(
        torch.tensor([priors.identity_weight] * modes + [0.0] * 7, dtype=f8)
    )
    expected[modes:, modes:] += camera_prior_term(priors.cameras, state.cameras).block
    torch.testing.assert_close(system.border, expected, rtol=1e-6, atol=1e-3)


def test_matrix_is_positive_definite_anywhere(head):
    model, planes, priors, state, *_ = make_problem(head, seed=3)
    system = linearize(model, planes, priors, state, LossSettings(4.0, 3.0, True, 3), True)
    count, size, border = *system.gradient.shape, len(system.border)
    full = torch.zeros(count * size + border, count * size + border, dtype=f8)
    for t in range(count):
        at = slice(t * size, (t + 1) * size)
        full[at, at] = system.diagonal[t]
        full[at, count * size :] = system.cross[t]
        full[count * size :, at] = system.cross[t].T
        if t + 1 < count:
            after = slice((t + 1) * size, (t + 2) * size)
            full[at, after] = full[after, at] = -priors.link * priors.link_weights[t]
    full[count * size :, count * size :] = system.border
    scale = full.diagonal().rsqrt()
    assert float(torch.linalg.eigvalsh(scale[:, None] * full * scale).min()) > -1e-9


def test_float32_planes_agree(head):
    model, planes, priors, state, *_ = make_problem(head)
    loss = LossSettings(4.0, 3.0, False, 3)
    exact = linearize(model, planes, priors, state, loss, True)
    small = landmark_model(head, torch.float32)
    rough = linearize(
        small, Planes(planes.xy.float(), planes.precision.float()), priors, state, loss, True
    )
    assert rough.cost == pytest.approx(exact.cost, rel=1e-5)
    torch.testing.assert_close(
        rough.gradient, exact.gradient, rtol=1e-3, atol=1e-4 * float(exact.gradient.abs().max())
    )


def test_frames_left_out_follow_the_quadratic_model(head):
    """Of the others all is as if every frame were differentiated; smoothness counts everywhere."""
    model, planes, priors, state, *_ = make_problem(head, free_cameras=False)
    loss = LossSettings(4.0, 3.0, False, 3)
    before = linearize(model, planes, priors, state, loss, False)
    step = 1e-3 * torch.randn(before.gradient.shape, generator=torch.Generator(), dtype=f8)
    moved = move(model, state, step, None, torch.zeros(0, dtype=f8))
    full = linearize(model, planes, priors, moved, loss, False)
    arguments = (model, planes, priors, moved, loss, before, step)
    every = relinearize(*arguments, torch.arange(FRAMES))
    assert every.cost == pytest.approx(full.cost, rel=1e-12)
    torch.testing.assert_close(every.gradient, full.gradient)
    some = relinearize(*arguments, torch.tensor([2]))
    torch.testing.assert_close(some.terms.gradient[2], full.terms.gradient[2])
    torch.testing.assert_close(some.diagonal[2], full.diagonal[2])
    bend = (before.terms.blocks @ step[..., None])[..., 0]
    left = torch.tensor([0, 1, 3])
    torch.testing.assert_close(some.terms.gradient[left], (before.terms.gradient + bend)[left])
    smooth = full.gradient - full.terms.gradient
    torch.testing.assert_close(some.gradient - some.terms.gradient, smooth)
    promised = (step * (before.terms.gradient + 0.5 * bend)).sum(1)[left]
    torch.testing.assert_close(some.terms.cost[left], before.terms.cost[left] + promised)


def test_a_few_directions_as_modes_are_the_same_head(head):
    model, planes, priors, state, *_ = make_problem(head, free_cameras=False)
    bare = replace(priors, identity_weight=0.0)
    loss = LossSettings(4.0, 3.0, False, 3)
    whole = linearize(model, planes, bare, state, loss, True)
    turn = torch.randn(MODES, 2, dtype=f8, generator=torch.Generator().manual_seed(3))
    about = along(model, state.identity, turn)
    still = replace(state, identity=torch.zeros(2, dtype=f8))
    few = linearize(about, planes, bare, still, loss, True)
    assert few.cost == pytest.approx(whole.cost, rel=1e-12)
    torch.testing.assert_close(few.diagonal, whole.diagonal)
    torch.testing.assert_close(few.cross, whole.cross @ turn)
    torch.testing.assert_close(few.border, turn.T @ whole.border @ turn)
