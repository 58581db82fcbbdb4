"""Deviations of fits to landmarks whose errors go together."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from densefit.fit import FitOptions, data, fit
from densefit.fit import joint_fit as stage
from densefit.fit.inverse import Deviations, deviations
from densefit.fit.joint_fit import JointFit
from densefit.fit.noise import (
    EXPRESSIONS_ALONE,
    EXPRESSIONS_MORE,
    IDENTITY_MORE,
    ROTATION_ALONE,
    TRANSLATION_ALONE,
    NoiseModel,
    noise_model,
    shipped_noise,
)
from densefit.fit.result import inside_bounds
from densefit.fit.solver import held_unknowns
from tests.fit.synthetic import camera_ring, observe, sample_truth, tiny_head

# A robust scale so large that nothing is robust: then all of this is linear algebra.
LINEAR = FitOptions(
    correlation=1.5, hidden_weight=1.0, model_sigma=0.0, sigma_scale=1.0, robust_start=(1e3,),
    robust_scale=1e3, double=True, bias_scale=0.0,
)  # fmt: skip


def spread_with(
    noise: NoiseModel, monkeypatch, level: float, options: FitOptions = LINEAR, cameras: int = 2,
    bounds: bool = False,
):  # fmt: skip
    """A fit and its start; without `bounds`, deviations as if no expression stood at one."""
    head, rig = tiny_head(), camera_ring(cameras)
    observations = observe(head, rig, sample_truth(head, 5), 1.0)
    monkeypatch.setattr(data, "noise_model", lambda *_: noise)
    monkeypatch.setattr(stage, "error_level", lambda residual: torch.full_like(residual, level))
    if not bounds:
        monkeypatch.setattr(stage, "held_unknowns", lambda _, __, slope: slope.isnan())
    job = JointFit(head, rig, observations, options, np.arange(5))
    return job, job.start()


@pytest.mark.parametrize("cameras", ["off", "all"])
def test_independent_errors_give_the_plain_deviations(cameras, monkeypatch):
    """With errors as independent and as large as the energy says, the sandwich is H^-1."""
    noise = NoiseModel(torch.zeros(90, 3, 1, dtype=torch.float64), 1.0)
    # The energy divides by the correlation: it means errors larger by its root.
    options = replace(LINEAR, refine_cameras=cameras)
    job, start = spread_with(noise, monkeypatch, LINEAR.correlation**0.5, options)
    noisy, inflation = job.spread(start)
    assert inflation is not None and len(inflation.border) == (6 if cameras == "off" else 20)
    assert float((inflation.frames[:44] - EXPRESSIONS_MORE).abs().max()) < 0.02
    assert float((inflation.frames[44:] - 1).abs().max()) < 0.02
    assert float((inflation.border[:6] - IDENTITY_MORE).abs().max()) < 0.02
    assert cameras == "off" or float((inflation.border[6:] - 1).abs().max()) < 0.02


def test_one_camera_alone_says_more(monkeypatch):
    noise = NoiseModel(torch.zeros(90, 3, 1, dtype=torch.float64), 1.0)
    job, start = spread_with(noise, monkeypatch, LINEAR.correlation**0.5, cameras=1)
    _, inflation = job.spread(start)
    assert inflation is not None
    assert float((inflation.frames[:44] / EXPRESSIONS_ALONE - 1).abs().max()) < 0.02
    assert float((inflation.frames[47:50] / TRANSLATION_ALONE - 1).abs().max()) < 0.02
    assert float((inflation.frames[44:47] / ROTATION_ALONE - 1).abs().max()) < 0.02


def test_cameras_do_not_average_out_what_is_alike_in_all(monkeypatch):
    """Each landmark displaced by itself: to one camera that is as good as independent errors of
    its picture; four cameras do not halve the deviations, as independent errors would have them."""
    each = NoiseModel(torch.eye(270, dtype=torch.float64).reshape(90, 3, 270), 0.0)
    level = LINEAR.correlation**0.5
    inflation = {}
    for count in (1, 4):
        job, start = spread_with(each, monkeypatch, level, cameras=count)
        inflation[count] = job.spread(start)[1]
    rotation = inflation[1].frames[44:47] / ROTATION_ALONE
    assert float((rotation - 1).abs().max()) < 0.05
    assert float((inflation[1].border - IDENTITY_MORE).abs().max()) < 0.05
    assert 1.25 < float(inflation[4].frames[44:47].min())
    assert float(inflation[4].frames[44:47].max()) < 2.1
    assert float(inflation[4].border.min()) > 1.3


def test_a_shift_of_the_head_is_an_error_of_position_as_large_as_stated(monkeypatch):
    """A displacement of all landmarks alike is followed by the head to the last digit."""
    shift = NoiseModel(torch.eye(3, dtype=torch.float64).expand(90, 3, 3), 0.0)
    no_priors = replace(LINEAR, temporal_weight=0.0)
    job, start = spread_with(shift, monkeypatch, 1.0, no_priors)
    noisy, _ = job.spread(start)
    sigma = 0.9 / 1500.0  # one pixel at the head
    stated = noisy.frames[:, 47:50].numpy()
    np.testing.assert_allclose(stated[:, :2] / sigma, 1.0, atol=0.35)
    assert (stated[:, 2] > 0.6 * sigma).all()


def test_errors_that_shift_a_whole_picture_are_errors_of_the_pose(monkeypatch):
    """All of the variance in a common shift: position suffers, expressions hardly do."""
    shift = torch.zeros(90, 3, 2, dtype=torch.float64)
    shift[:, 0, 0] = shift[:, 1, 1] = 1
    job, start = spread_with(NoiseModel(shift, 0.0), monkeypatch, LINEAR.correlation**0.5)
    noisy, inflation = job.spread(start)
    frames = inflation.frames
    assert float(frames[47:49].min()) > 3  # translation in x and y
    assert float(frames[:44].max()) < 1.2  # expressions, held by their priors


@pytest.mark.parametrize("cameras", ["off", "all"])
def test_expressions_at_a_bound_leave_the_others_less_uncertain(cameras, monkeypatch):
    """Against the whole matrices, written out without the held expressions."""
    rng = np.random.default_rng(3)
    noise = NoiseModel(torch.from_numpy(rng.normal(size=(90, 3, 4))), 0.2, shared=0.4)
    alone = replace(LINEAR, independent_frames=True, refine_cameras=cameras)
    job, start = spread_with(noise, monkeypatch, 1.0, alone, bounds=True)
    noisy, _ = job.spread(start)
    system, priors = start.solution.system, job.priors(start.picked)
    held = held_unknowns(job.model, start.solution.state, system.gradient)
    assert 10 < int(held.sum()) < held.numel() / 2
    free = torch.cat([~held.reshape(-1), torch.ones(len(system.border), dtype=torch.bool)])
    found = job.score(start, priors, noise)
    shared = torch.cat([found.shared_frames.flatten(0, 1), found.shared_border])
    score = (written_out(found) + shared @ shared.T)[free][:, free]
    inverse = torch.linalg.inv(written_out(system)[free][:, free])
    frames = noisy.frames.clone()
    frames[:, :44] /= EXPRESSIONS_MORE
    border = noisy.border.clone()
    border[: job.head.identity_count] /= IDENTITY_MORE
    stated = torch.cat([frames.reshape(-1), border])
    expected = (inverse @ score @ inverse).diagonal().sqrt()
    assert float((stated[free] / expected - 1).abs().max()) < 0.03
    plain = deviations(system, priors).frames
    ratio = noisy.frames[held] / plain[held]
    assert float(ratio.min()) > 0.3, "as without the bound"
    assert float(ratio.max()) < 30


def test_frames_do_not_average_out_what_they_share(monkeypatch):
    """Of five moments with the same error identity is as uncertain as of one."""
    factor = torch.from_numpy(np.random.default_rng(3).normal(size=(90, 3, 4)))
    alone = replace(LINEAR, independent_frames=True)
    sure = {}
    for shared in (0.0, 1.0):
        noise = NoiseModel(factor, 0.0, shared)
        job, start = spread_with(noise, monkeypatch, LINEAR.correlation**0.5, alone)
        noisy, inflation = job.spread(start)
        sure[shared] = (
            noisy.border / deviations(start.solution.system, job.priors(start.picked)).border
        )
        assert inflation is not None
        longer = Deviations(noisy.frames.repeat(4, 1), noisy.border, noisy.border_covariance)
        grown = inflation.apply(longer).border / inflation.apply(noisy).border
        # Four times the frames: their own errors average out in the plain deviations already.
        assert float((grown - (1 + 3 * noisy.shared).sqrt()).abs().max()) < 1e-9
        assert float(noisy.shared.max()) <= (1 if shared else 0)
    assert float((sure[1.0] / sure[0.0]).median()) > 1.7


def written_out(blocks) -> torch.Tensor:
    """Frames without links, and their border."""
    cross = blocks.cross.double().flatten(0, 1)
    upper = torch.cat([torch.block_diag(*blocks.diagonal), cross], 1)
    return torch.cat([upper, torch.cat([cross.T, blocks.border], 1)])


@pytest.mark.parametrize(("value", "sigma"), [(0.0, 0.2), (0.1, 0.2), (0.5, 2.0), (0.95, 0.1)])
def test_deviations_of_expressions_know_that_the_truth_lies_within_bounds(value, sigma):
    draws = np.random.default_rng(0).normal(value, sigma, 400_000)
    draws = draws[(draws > 0) & (draws < 1)]
    expected = np.sqrt(np.mean(np.square(draws - value)))
    found = inside_bounds(np.array([value]), np.array([sigma]))
    np.testing.assert_allclose(found, expected, rtol=5e-3)
    assert inside_bounds(np.array([0.4]), np.array([0.0])) == 0
    np.testing.assert_allclose(inside_bounds(np.array([0.5]), np.array([0.01])), 0.01)


def test_the_shipped_covariance():
    noise = shipped_noise()
    assert noise.factor.shape[:2] == (703, 3)
    # Seen from the front; one is the mean over all sides.
    across = noise.factor[:, :2].square().sum(2).mean()
    assert float(across) + noise.rest == pytest.approx(1.0, abs=0.35)
    assert 0 < noise.shared < 1
    assert noise_model(703, FitOptions()) is noise
    assert noise_model(90, FitOptions()) is None, "another head's landmarks"
    assert noise_model(703, FitOptions(correlation=1.0)) is None, "said to be independent"


def test_long_takes_inherit_the_inflation(monkeypatch):
    shift = torch.zeros(90, 3, 2, dtype=torch.float64)
    shift[:, 0, 0] = shift[:, 1, 1] = 1
    monkeypatch.setattr(data, "noise_model", lambda *_: NoiseModel(shift, 0.0))
    head, cameras = tiny_head(), camera_ring(2)
    observations = observe(head, cameras, sample_truth(head, 24), 1.0)
    options = replace(LINEAR, double=False)
    whole = fit(head, cameras, observations, options)
    pieces = fit(
        head, cameras, observations,
        replace(options, joint_frames=8, keyframes=8, window=12, overlap=4),
    )  # fmt: skip
    ratio = np.median(pieces.translation_std / whole.translation_std)
    assert 0.5 < ratio < 2
