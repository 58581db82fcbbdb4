"""The focal length of a camera that is alone takes the heads along: other coordinates of the same
system, in which float32 is enough and far starts are no trouble."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from densefit.fit import FitOptions, data
from densefit.fit.checkpoints import Checkpoints
from densefit.fit.dolly import Dolly, alone, carried
from densefit.fit.inverse import deviations
from densefit.fit.joint_fit import JointFit
from densefit.fit.linearization import Linearization
from densefit.fit.noise import NoiseModel
from densefit.fit.polish import solve_together
from densefit.fit.priors import linked
from densefit.fit.solver import minimize
from densefit.fit.state import move_cameras
from densefit.fit.steps import Start
from densefit.fit.windows import Window, Windows
from tests.fit.synthetic import look_at_camera, observe, sample_truth, tiny_head

FRAMES, FOCAL = 9, 1400.0
CAMERA = look_at_camera(0.1, 0.1, 0.8, FOCAL, (1280, 960), "phone")
PHONE = [replace(CAMERA, K=None, T_camera_world=None)]
OPTIONS = FitOptions(
    correlation=1.5, model_sigma=0.0, sigma_scale=1.0, double=True, joint_frames=FRAMES,
    keyframes=FRAMES, window=4, overlap=2,
)  # fmt: skip
f8 = torch.float64


def job_of(options: FitOptions = OPTIONS) -> JointFit:
    head = tiny_head()
    observations = observe(head, [CAMERA], sample_truth(head, FRAMES, seed=3), 1.0)
    return JointFit(head, PHONE, observations, options, np.arange(FRAMES))


def without_dolly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Dolly, "of", staticmethod(lambda model, state: None))


def both_systems(monkeypatch: pytest.MonkeyPatch) -> tuple[JointFit, Start, Start]:
    """A fit, its start, and the same with the system of the focal length by itself."""
    job = job_of()
    start = job.start()
    exact = job._at_rest(start.solution, start.picked, start.sigma_scale)
    start = replace(start, solution=exact)
    with monkeypatch.context() as patch:
        without_dolly(patch)
        solution = job._at_rest(start.solution, start.picked, start.sigma_scale)
    return job, start, replace(start, solution=solution)


def test_the_system_is_that_of_the_focal_length_and_the_moves_of_the_heads(monkeypatch) -> None:
    job, start, plain = both_systems(monkeypatch)
    moved: Linearization = start.solution.system
    bare: Linearization = plain.solution.system
    assert moved.dolly is not None and bare.dolly is None
    shift, priors = moved.dolly.shift, job.priors(start.picked)
    # Blocks hold no links: those act on D as on any step.
    total = torch.zeros(FRAMES, dtype=f8)
    total[1:] += priors.link_weights
    total[:-1] += priors.link_weights
    own = bare.diagonal - total[:, None, None] * priors.link
    bend = (own @ shift[..., None])[..., 0] + linked(priors, shift)
    size = float(bare.border[-1, -1])
    cross = bare.cross[..., -1] + bend
    torch.testing.assert_close(moved.cross[..., -1], cross, rtol=1e-6, atol=1e-9 * size)
    torch.testing.assert_close(moved.cross[..., :-1], bare.cross[..., :-1])
    expected = size + 2 * (bare.cross[..., -1] * shift).sum() + (bend * shift).sum()
    assert float(moved.border[-1, -1]) == pytest.approx(float(expected), rel=1e-6)
    assert float(moved.border[-1, -1]) < 0.05 * size
    row = bare.border[-1, :-1] + torch.einsum("tpn,tp->n", bare.cross[..., :-1], shift)
    torch.testing.assert_close(moved.border[-1, :-1], row, rtol=1e-6, atol=1e-9 * size**0.5)
    slope = bare.border_gradient[-1] + (bare.gradient * shift).sum()
    assert float(moved.border_gradient[-1]) == pytest.approx(float(slope), abs=1e-7 * size)


def test_deviations_are_those_of_the_focal_length_itself(monkeypatch) -> None:
    g = torch.Generator().manual_seed(5)
    factor = 0.3 * torch.randn(90, 3, 7, generator=g, dtype=f8)
    noise = NoiseModel(factor, 0.6, shared=0.4)
    monkeypatch.setattr(data, "noise_model", lambda *_: noise)
    job, start, plain = both_systems(monkeypatch)
    priors = job.priors(start.picked)
    first, second = (deviations(s.solution.system, priors) for s in (start, plain))
    for name in ("frames", "border", "border_covariance"):
        torch.testing.assert_close(
            getattr(first, name), getattr(second, name), rtol=1e-3, atol=1e-6
        )
    noisy = job.spread(start)[0]
    with monkeypatch.context() as patch:
        without_dolly(patch)
        bare = job.spread(plain)[0]
    for name in ("frames", "border", "border_covariance"):
        torch.testing.assert_close(getattr(noisy, name), getattr(bare, name), rtol=1e-3, atol=1e-6)
    assert abs(float((noisy.border / first.border)[-1]) - 1) > 0.1


def test_windows_of_a_long_take_agree(monkeypatch) -> None:
    """What windows say of the border, and of the frames' deviations."""
    job, start, _ = both_systems(monkeypatch)

    def said() -> tuple[torch.Tensor, ...]:
        windows = Windows(job, start.sigma_scale, lambda _: None, Checkpoints())
        part = windows.reduced(start.state)
        covariance = torch.linalg.inv(part.matrix + torch.eye(len(part.matrix), dtype=f8))
        return part.matrix, part.slope, windows.deviations(start.state, covariance)

    matrix, slope, spread = said()
    without_dolly(monkeypatch)
    bare_matrix, bare_slope, bare_spread = said()
    size = float(bare_matrix.diagonal().abs().max())
    torch.testing.assert_close(matrix, bare_matrix, rtol=1e-4, atol=1e-7 * size)
    torch.testing.assert_close(slope, bare_slope, rtol=1e-4, atol=1e-7 * size)
    torch.testing.assert_close(spread, bare_spread, rtol=1e-4, atol=0)


def test_float32_says_the_same() -> None:
    fine = job_of().start().solution
    coarse_job = job_of(replace(OPTIONS, double=False))
    assert coarse_job.model.dtype == torch.float32
    coarse = coarse_job.start()
    focal = [float(s.state.cameras.log_focal[0]) for s in (fine, coarse.solution)]
    spread = [
        float(deviations(s.system, coarse_job.priors(coarse.picked)).border[-1])
        for s in (fine, coarse.solution)
    ]
    assert abs(focal[0] - focal[1]) < 0.02 * spread[0]
    assert spread[1] == pytest.approx(spread[0], rel=1e-3)


@pytest.mark.parametrize("away", [-0.9, 0.9])
def test_a_far_start_ends_where_a_near_one_does(away: float) -> None:
    job = job_of(replace(OPTIONS, double=False))
    state, planes, priors = job.first_state()
    found = []
    for step in (0.0, away):
        cameras = replace(state.cameras, log_focal=state.cameras.log_focal + step)
        first = replace(state, cameras=cameras)
        found.append(minimize(job.model, planes, priors, first, job.options, True))
    apart = found[0].state.cameras.log_focal - found[1].state.cameras.log_focal
    assert abs(float(apart)) < 0.01
    assert found[1].energy == pytest.approx(found[0].energy, rel=1e-4)
    assert found[1].iterations < 30


def test_heads_stay_as_large_in_the_picture() -> None:
    job = job_of()
    state = job.start().solution.state
    step = torch.tensor([0.4], dtype=f8)
    motion, cameras = carried(job.model, state, step), move_cameras(state.cameras, step)
    depth = [m.translation[:, 2] for m in (state.motion, motion)]
    assert float((depth[1] - depth[0]).min()) > 0.2
    size = []
    for some, view in ((state.motion, state.cameras), (motion, cameras)):
        world = job.world(state.identity, some)
        image = view.log_focal.exp() * world[:, :2] / world[:, 2:]
        size.append(image.std(2))
    torch.testing.assert_close(size[0], size[1], rtol=0.05, atol=0)


def test_only_a_camera_that_is_alone_takes_the_heads_along() -> None:
    state = job_of().first_state()[0]
    assert alone(state.cameras) and not alone(state.cameras.fixed())
    assert not alone(replace(state.cameras, free_extrinsics=(True,)))
    several = replace(state.cameras, free_focal=(True, False), free_extrinsics=(False, False))
    assert not alone(several)


def test_windows_follow_a_step_of_identity_and_focal_length() -> None:
    """To first order, from where frames are at their minimum."""
    job = job_of()
    start = job.start()
    windows = Windows(job, start.sigma_scale, lambda _: None, Checkpoints())
    solved = windows.motion(start.solution.state, False, 0.0, 1.0)
    step = torch.zeros(windows.modes + 1, dtype=f8)
    step[0], step[-1] = 0.1, 0.01
    window = Window(0, FRAMES, slice(0, FRAMES))
    left, followed = windows._moved(solved, step), windows._followed(solved, window, step)
    there = windows.motion(solved, False, 0.0, 1.0, step)
    torch.testing.assert_close(there.identity, left.identity)
    torch.testing.assert_close(there.cameras.log_focal, left.cameras.log_focal)
    lowest = windows.energy(there)
    assert windows.energy(left) - lowest > 20 * abs(windows.energy(followed) - lowest)


def test_a_step_that_costs_more_is_taken_back(monkeypatch) -> None:
    job = job_of()
    start = job.start()
    windows = Windows(job, start.sigma_scale, lambda _: None, Checkpoints())
    energies = iter([10.0, 11.0])
    monkeypatch.setattr(windows, "energy", lambda state: next(energies))
    (found,) = solve_together([windows], [start.state], [True])
    assert torch.equal(found.state.identity, start.state.identity)
    assert torch.equal(found.state.cameras.log_focal, start.state.cameras.log_focal)
