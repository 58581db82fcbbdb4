"""The network's bias is solved for beside identity."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from densefit.fit import FitOptions, data, fit, fit_same_person
from densefit.fit.bias import bias_lengths
from densefit.fit.checkpoints import Checkpoints
from densefit.fit.linearization import Planes
from densefit.fit.noise import NoiseModel
from densefit.fit.state import CameraState, rest
from densefit.fit.takes import TakeLandmarks
from densefit.head.rotation import rotation_matrix
from tests.fit.synthetic import Truth, camera_ring, observe, sample_truth, tiny_head

MOMENTS, SIGMA_PX = 6, 3.0
OPTIONS = FitOptions(
    bias_scale=1.0, hidden_weight=1.0, model_sigma=0.0, sigma_scale=1.0, identity_weight=1.0,
    independent_frames=True, threads=1,
)  # fmt: skip
WITHOUT = replace(OPTIONS, bias_scale=0.0)
HEAD, CAMERAS = tiny_head(), camera_ring(3)


@pytest.fixture
def factor(monkeypatch) -> np.ndarray:
    """(L, 3, 4) rough displacements, which no identity looks like, as the errors that are known."""
    rough = np.random.default_rng(11).normal(size=(90, 3, 4)) / 2
    noise = NoiseModel(torch.from_numpy(rough), 0.05, shared=1.0)
    monkeypatch.setattr(data, "noise_model", lambda *_: noise)
    monkeypatch.setattr(data, "error_level", torch.ones_like)
    return rough


def biased(seed: int, factor: np.ndarray, frames: int = MOMENTS):
    """A person's truth and landmarks that all err alike: observed from a head of other rest
    landmarks."""
    truth = sample_truth(HEAD, frames, seed=seed)
    length = SIGMA_PX * 0.9 / 1500.0
    moved = factor @ np.random.default_rng(seed).normal(size=factor.shape[2]) * length
    shown = _Displaced(**vars(truth), moved=moved)
    seen = observe(HEAD, CAMERAS, shown, 0.2 * SIGMA_PX, seed=seed)
    return truth, replace(seen, sigma=np.full_like(seen.sigma, SIGMA_PX))


class _Displaced(Truth):
    """Landmarks that lie beside where they are, in the head frame."""

    def __init__(self, moved: np.ndarray, **arrays) -> None:
        super().__init__(**arrays)
        object.__setattr__(self, "moved", moved)

    def world_landmarks(self, head) -> np.ndarray:
        turned = self.moved @ rotation_matrix(self.rotation).swapaxes(1, 2)
        return super().world_landmarks(head) + turned


def test_lengths_are_sigmas_at_the_head():
    """Two cameras of focal length 1 half a metre away: sigma 0.002 is a millimetre there, one with
    half the sigma counts by its precision, and what no camera sees has none."""
    eye = torch.eye(3, dtype=torch.float64)
    motion = rest(eye.expand(3, 3, 3).clone(), torch.zeros(3, 3, dtype=torch.float64))
    shift = torch.tensor([[0.0, 0.0, 0.5]] * 2, dtype=torch.float64)
    ones = torch.ones(2, dtype=torch.float64)
    cameras = CameraState(eye.expand(2, 3, 3), shift, 0 * ones, (False,) * 2, (False,) * 2)
    precision = torch.zeros(3, 2, 3, dtype=torch.float64)
    precision[:, :, 0] = 0.002**-2
    precision[:, 0, 1], precision[:, 1, 1] = 0.002**-2, 0.001**-2
    planes = Planes(torch.zeros(3, 2, 2, 3), precision)
    points = torch.zeros(3, 3, dtype=torch.float64)
    found = bias_lengths(planes, points, motion, cameras, ones)
    np.testing.assert_allclose(found, [1e-3, 1e-3 / 2.5**0.5, 0.0], rtol=1e-9)
    np.testing.assert_allclose(bias_lengths(planes, points, motion, cameras, 2 * ones), 2 * found)


def test_identity_is_nearer_the_truth(factor):
    """What frames and cameras share is told from shape by what it looks like."""
    with_it, without = [], []
    for seed in range(6):
        truth, seen = biased(seed, factor)
        found = fit(HEAD, CAMERAS, seen, OPTIONS)
        assert found.identity.shape == found.identity_std.shape == truth.identity.shape
        with_it.append(np.abs(found.identity - truth.identity).mean())
        without.append(np.abs(fit(HEAD, CAMERAS, seen, WITHOUT).identity - truth.identity).mean())
    assert np.mean(with_it) < 0.6 * np.mean(without)


def test_residuals_are_those_of_the_head(factor):
    """The bias explains landmarks, but nobody gets to see it."""
    _, seen = biased(1, factor)
    found = fit(HEAD, CAMERAS, seen, OPTIONS)
    assert np.nanmedian(found.residual_px) > np.nanmedian(
        fit(HEAD, CAMERAS, seen, WITHOUT).residual_px
    )


def test_a_person_who_is_known_has_none(factor):
    truth, seen = biased(4, factor)
    one, two = (
        fit(HEAD, CAMERAS, seen, replace(options, identity=truth.identity))
        for options in (OPTIONS, WITHOUT)
    )
    np.testing.assert_array_equal(one.expression, two.expression)
    np.testing.assert_array_equal(one.identity, truth.identity)
    assert not one.identity_std.any()


def test_long_takes_and_several_of_a_person(factor):
    """Windows keep the bias of the keyframes' solve; takes of one person share one."""
    truth, seen = biased(3, factor, 24)
    whole = fit(HEAD, CAMERAS, seen, OPTIONS)
    long = replace(OPTIONS, joint_frames=8, keyframes=8, window=12, overlap=4)
    pieces = fit(HEAD, CAMERAS, seen, long)
    np.testing.assert_allclose(pieces.identity, whole.identity, atol=0.05)
    parts = [seen.take(np.arange(12)), seen.take(np.arange(12, 24))]
    takes = [TakeLandmarks(CAMERAS, part, independent_frames=True) for part in parts]
    one, two = fit_same_person(HEAD, takes, OPTIONS)
    np.testing.assert_array_equal(one.identity, two.identity)
    np.testing.assert_allclose(one.identity, whole.identity, atol=0.1)
    assert truth.identity.shape == one.identity.shape


def test_a_fit_that_goes_on_has_the_same_bias(factor, tmp_path: Path):
    _, seen = biased(2, factor, 12)
    options = replace(OPTIONS, joint_frames=8, keyframes=8, window=6, overlap=2)
    expected = fit(HEAD, CAMERAS, seen, options, checkpoints=Checkpoints(tmp_path))
    for step in [p for p in tmp_path.glob("*.npz") if p.stem != "begun"]:
        step.unlink()
    again = fit(HEAD, CAMERAS, seen, options, checkpoints=Checkpoints(tmp_path))
    np.testing.assert_array_equal(again.identity, expected.identity)
    np.testing.assert_array_equal(again.expression, expected.expression)
