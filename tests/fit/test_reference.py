"""The solver reaches the minimum that plain autograd with L-BFGS reaches, slowly, from the same
start."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from densefit.fit import solver
from densefit.fit.bias import with_bias
from densefit.fit.camera_prior import camera_prior
from densefit.fit.landmark_model import landmark_model
from densefit.fit.linearization import LossSettings, Planes, linearize
from densefit.fit.newton_step import solve_step
from densefit.fit.observations import normalize_observations
from densefit.fit.options import FitOptions
from densefit.fit.priors import make_priors
from densefit.fit.solver import minimize
from densefit.fit.state import CameraState, Motion, State
from densefit.head.rotation import rotation_matrix
from tests.fit.reference_energy import ReferenceEnergy
from tests.fit.synthetic import camera_ring, observe, sample_truth, tiny_head

f8 = torch.float64


def take(frames: int, modes: int):
    """A take, its planes and priors, and a start near the truth with expressions inside their
    bounds."""
    head = tiny_head(modes=modes, landmarks=60)
    truth = sample_truth(head, frames, seed=5)
    cameras = camera_ring(2)
    options = FitOptions(correlation=2.0, tolerance=1e-9, double=True)
    observations = observe(head, cameras, truth, 1.0, outliers=0.03)
    flat = normalize_observations(observations, cameras, np.ones(60), 0.0)
    planes = Planes(
        torch.tensor(np.moveaxis(flat.xy, 3, 1)).contiguous(), torch.tensor(flat.precision)
    )
    transforms = torch.tensor(np.stack([c.T_camera_world for c in cameras]))
    known = CameraState(
        transforms[:, :3, :3],
        transforms[:, :3, 3],
        torch.zeros(2, dtype=f8),
        (False,) * 2,
        (False,) * 2,
    )
    model = landmark_model(head, f8)
    expression = torch.full((frames, 52), 0.05, dtype=f8)
    expression[:, model.gaze] = 0
    start = State(
        torch.zeros(modes, dtype=f8),
        Motion(
            expression,
            torch.tensor(rotation_matrix(truth.rotation + 0.02)),
            torch.tensor(truth.translation + 2e-3),
            torch.zeros(frames, 3, dtype=f8),
            torch.full((frames, 4), 0.01, dtype=f8),
        ),
        known,
    )
    start.motion.expression[:, model.gaze] = torch.tensor(
        head.gaze_expression(
            np.repeat([[[0, 0, 0], [0, 0, 0], [0.01, 0.01, 0], [0.01, 0.01, 0]]], frames, 0)
        )[:, model.gaze]
    )
    priors = make_priors(
        model, options, torch.tensor(truth.time), frames, camera_prior(cameras, options)
    )
    reference = ReferenceEnergy(
        head, start.motion.rotation, known,
        planes.xy.permute(0, 2, 3, 1), planes.precision, priors, 4.0, 2.0,
    )  # fmt: skip
    return model, planes, priors, start, options, reference


def minimize_by_lbfgs(model, planes, priors, start: State, reference: ReferenceEnergy) -> float:
    """Bounds by psi = sin^2(z); every unknown in units of the energy's curvature at the start."""
    frames, modes, free = len(start.motion), len(start.identity), len(model.free)
    first = torch.cat(
        [
            start.motion.expression[:, model.free].sqrt().asin(),
            torch.zeros(frames, 3, dtype=f8),
            start.motion.translation, start.motion.neck, start.motion.eyes,
        ], 1,
    )  # fmt: skip
    system = linearize(model, planes, priors, start, LossSettings(4.0, 2.0, False, 8), True)
    curvature = system.diagonal.diagonal(dim1=1, dim2=2).clone()
    curvature[:, :free] *= torch.sin(2 * first[:, :free]).square()
    unit = torch.cat([curvature.reshape(-1), system.border.diagonal()]).rsqrt()
    x = (torch.cat([first.reshape(-1), start.identity]) / unit).requires_grad_(True)
    none = torch.zeros(0, dtype=f8)

    def value() -> torch.Tensor:
        z = x * unit
        rows = z[: first.numel()].reshape(first.shape)
        rows = torch.cat([rows[:, :free].sin().square(), rows[:, free:]], 1)
        return reference(z[first.numel() :], rows, none)

    optimizer = torch.optim.LBFGS(
        [x], lr=1.0, max_iter=500, history_size=20, line_search_fn="strong_wolfe",
        tolerance_grad=1e-7, tolerance_change=1e-12,
    )  # fmt: skip

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        total = value()
        total.backward()
        return total

    optimizer.step(closure)
    assert modes == len(start.identity)
    return float(value().detach())


def test_agrees_with_autograd_lbfgs():
    model, planes, priors, start, options, reference = take(frames=2, modes=4)
    solution = minimize(model, planes, priors, start, options, True, scales=(4.0,))
    theirs = minimize_by_lbfgs(model, planes, priors, start, reference)
    loss = LossSettings(4.0, 2.0, False, 8)
    assert linearize(model, planes, priors, start, loss, True).cost > 1.2 * theirs
    assert solution.energy == pytest.approx(theirs, rel=1e-3)
    assert solution.energy < theirs * (1 + 1e-5)  # a solver of second order is not behind


def test_agrees_with_autograd_where_the_network_has_a_bias():
    """Modes that move landmarks only: not the joints, which identity's own do."""
    model, planes, priors, start, options, reference = take(frames=2, modes=4)
    factor = torch.from_numpy(np.random.default_rng(1).normal(size=(60, 3, 3)))
    model = with_bias(model, factor, torch.full((60,), 1e-3, dtype=f8), priors.identity_weight)
    start = replace(start, identity=torch.zeros(7, dtype=f8))
    reference.add_bias(model)
    solution = minimize(model, planes, priors, start, options, True, scales=(4.0,))
    theirs = minimize_by_lbfgs(model, planes, priors, start, reference)
    assert float(solution.state.identity[4:].abs().min()) > 0.02
    assert solution.energy == pytest.approx(theirs, rel=1e-3)
    assert solution.energy < theirs * (1 + 1e-5)


def test_float32_planes_reach_the_same_minimum():
    model, planes, priors, start, options, reference = take(frames=3, modes=4)
    exact = minimize(model, planes, priors, start, options, True, scales=(4.0,))
    small = landmark_model(tiny_head(modes=4, landmarks=60), torch.float32)
    rounded = Planes(planes.xy.float(), planes.precision.float())
    rough = minimize(small, rounded, priors, start, options, True, scales=(4.0,))
    assert rough.energy == pytest.approx(exact.energy, rel=1e-4)
    torch.testing.assert_close(
        rough.state.motion.translation, exact.state.motion.translation, atol=2e-5, rtol=0
    )


def test_a_frame_that_refuses_a_step_is_damped_alone(monkeypatch):
    """The cost of one frame rises as it moves, which no derivative says."""
    model, planes, priors, start, options, _ = take(frames=3, modes=4)
    before = start.motion.translation[1]
    plain, steps = solver.linearize, []

    def with_wall(*arguments):
        system, state = plain(*arguments), arguments[3]
        wall = 1e9 * float((state.motion.translation[1] - before).norm())
        cost = system.terms.cost.clone()
        cost[1] += wall
        terms = replace(system.terms, cost=cost)
        return replace(system, cost=system.cost + wall, terms=terms)

    def recorded(*arguments, frame_damping, **more):
        steps.append((arguments[3], frame_damping))
        return solve_step(*arguments, frame_damping=frame_damping, **more)

    monkeypatch.setattr(solver, "linearize", with_wall)
    monkeypatch.setattr(solver, "solve_step", recorded)
    solver.minimize(model, planes, priors, start, options, True, scales=(4.0,))
    damping, each = steps[1]
    assert damping == solver.DAMPING  # a trial was refused, and the others go on as they did
    assert each.tolist() == [damping, solver.SHY, damping]
