"""Deviations of fits to landmarks whose errors go together."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from densefit.fit import FitOptions, fit
from densefit.fit import joint_fit as stage
from densefit.fit.joint_fit import JointFit
from densefit.fit.noise import NoiseModel, noise_model, shipped_noise
from tests.fit.synthetic import camera_ring, observe, sample_truth, tiny_head

# A robust scale so large that nothing is robust: then all of this is linear algebra.
LINEAR = FitOptions(
    correlation=1.5, hidden_weight=1.0, model_sigma=0.0, sigma_scale=1.0, robust_start=(1e3,),
    robust_scale=1e3, double=True,
)  # fmt: skip


def spread_with(noise: NoiseModel, monkeypatch, level: float, options: FitOptions = LINEAR):
    head, cameras = tiny_head(), camera_ring(2)
    observations = observe(head, cameras, sample_truth(head, 5), 1.0)
    monkeypatch.setattr(stage, "noise_model", lambda *_: noise)
    monkeypatch.setattr(stage, "error_level", lambda residual, _: torch.full_like(residual, level))
    job = JointFit(head, cameras, observations, options, np.arange(5))
    return job, job.start()


@pytest.mark.parametrize("cameras", ["off", "all"])
@pytest.mark.parametrize("part", ["all in the factor", "none in the factor"])
def test_independent_errors_give_the_plain_deviations(part, cameras, monkeypatch):
    """With errors as independent and as large as the energy says, the sandwich is H^-1."""
    identity = torch.eye(180, dtype=torch.float64).reshape(90, 2, 180)
    noise = NoiseModel(identity, 0.0)
    if part == "none in the factor":
        noise = NoiseModel(torch.zeros(90, 2, 1, dtype=torch.float64), 1.0)
    # The energy divides by the correlation: it means errors larger by its root.
    options = replace(LINEAR, refine_cameras=cameras)
    job, start = spread_with(noise, monkeypatch, LINEAR.correlation**0.5, options)
    noisy, inflation = job.spread(start)
    assert inflation is not None and len(inflation.border) == (6 if cameras == "off" else 20)
    assert float((inflation.frames - 1).abs().max()) < 0.02
    assert float((inflation.border - 1).abs().max()) < 0.02


def test_errors_that_shift_a_whole_picture_are_errors_of_the_pose(monkeypatch):
    """All of the variance in a common shift: position suffers, expressions hardly do."""
    shift = torch.zeros(90, 2, 2, dtype=torch.float64)
    shift[:, 0, 0] = shift[:, 1, 1] = 1
    job, start = spread_with(NoiseModel(shift, 0.0), monkeypatch, LINEAR.correlation**0.5)
    noisy, inflation = job.spread(start)
    frames = inflation.frames
    assert float(frames[47:49].min()) > 3  # translation in x and y
    assert float(frames[:44].max()) < 1.2  # expressions, held by their priors


def test_the_shipped_covariance():
    noise = shipped_noise()
    assert noise.factor.shape[:2] == (703, 2)
    variance = float(noise.factor.square().sum(2).mean()) + noise.rest
    assert variance == pytest.approx(1.0, abs=0.05)
    assert noise_model(703, FitOptions()) is noise
    assert noise_model(90, FitOptions()) is None, "another head's landmarks"
    assert noise_model(703, FitOptions(correlation=1.0)) is None, "said to be independent"


def test_long_takes_inherit_the_inflation(monkeypatch):
    shift = torch.zeros(90, 2, 2, dtype=torch.float64)
    shift[:, 0, 0] = shift[:, 1, 1] = 1
    monkeypatch.setattr(stage, "noise_model", lambda *_: NoiseModel(shift, 0.0))
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
