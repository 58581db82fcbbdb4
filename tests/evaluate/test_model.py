"""The measurement of head models: a known person comes back, and figures are what they claim."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from densefit.cli import main
from densefit.evaluate.model import ModelOptions, drift, evaluate_model, summary
from densefit.evaluate.scan_fit import ScanFitOptions, ScanFitter, surface_distance
from densefit.evaluate.scans import Surface, face_samples, noisy
from densefit.head import HeadModel, load_head
from densefit.head.rotation import rotation_matrix


@pytest.fixture(scope="module")
def head() -> HeadModel:
    return load_head()


def someone(head: HeadModel, seed: int = 4) -> tuple[np.ndarray, Surface]:
    """A person of the prior as a surface in a frame of its own."""
    identity = 0.7 * np.random.default_rng(seed).normal(size=head.identity_count)
    turn, shift = rotation_matrix(np.array([0.1, -0.3, 0.05])), np.array([0.3, -0.1, 0.8])
    vertices = head.neutral(identity).astype(np.float64) @ turn.T + shift
    outside = head.triangles[head.part_triangles("skin", "ears", "scalp", "neck")]
    truth = head.landmarks(vertices)
    return identity, Surface("someone", vertices, outside, truth[head.ibug68], truth)


def test_a_person_of_the_prior_is_found_again(head: HeadModel) -> None:
    identity, surface = someone(head)
    scan = face_samples(surface, 1500)
    options = ScanFitOptions(expression_deviation=0.0, landmark_noise=1e-3)
    fitter = ScanFitter(head)
    fit = fitter.fit(scan, options)
    others = face_samples(surface, 500, seed=1)
    distance = surface_distance(fitter, fit, others)
    assert np.isfinite(distance).mean() > 0.9 and np.nanmean(distance) < 1.5e-4
    assert drift(head, fit, surface).mean() < 5e-4
    mean_head = head.landmarks(head.template) - fit.to_head(surface.truth)
    assert np.linalg.norm(mean_head, axis=1).mean() > 3e-3  # there was something to find
    # A rigid motion, and the size, were not traded for identity.
    np.testing.assert_allclose(fit.rotation @ fit.rotation.T, np.eye(3), atol=1e-9)
    assert np.linalg.norm(fit.vertices - head.neutral(identity), axis=1).mean() < 2.5e-3


def test_samples_lie_on_the_face_and_noise_is_as_stated(head: HeadModel) -> None:
    surface = someone(head)[1]
    scan = face_samples(surface, 2000)
    distance = np.linalg.norm(scan.points - surface.landmarks[30], axis=1)
    assert len(scan.points) == 2000 and distance.max() < 0.095
    few = noisy(scan, 400, 1.5e-3)
    originals = scan.points[np.random.default_rng(0).choice(2000, 400, replace=False)]
    assert (few.points - originals).std() == pytest.approx(1.5e-3, rel=0.1)
    again = face_samples(surface, 2000)
    np.testing.assert_array_equal(again.points, scan.points)


def test_table_has_every_measure_of_every_model(head: HeadModel) -> None:
    # A population that is the model itself: everything must be found well.
    rows = evaluate_model(
        {"a": head}, None, head, ModelOptions(people=1, points=500, sparse_draws=1)
    )
    table = {(measure, kind): value for measure, kind, _, value in summary(rows)}
    kind = "held-out ict"
    assert table["dense", kind] < 0.3 < table["mean head scalp", kind]
    assert table["drift", kind] < 1.0
    assert table["unseen scalp", kind] < table["mean head scalp", kind]
    assert {m for m, _ in table} >= {"sparse", "drift without lids and lips", "unseen neck"}


def test_curves_of_a_model_on_its_own_people(head: HeadModel) -> None:
    from densefit.evaluate.curves import face_points, measure, people_of

    curves = measure(head, people_of(head, 3, True), people_of(head, 6, False))
    assert curves.modes[-1] == head.identity_count
    assert (np.diff(curves.compactness) >= 0).all() and curves.compactness[-1] == pytest.approx(1)
    assert curves.generalisation[-1] < 1e-4 < curves.generalisation[0]  # all modes make its people
    assert (np.diff(curves.generalisation) < 1e-6).all()
    assert curves.specificity[0] < curves.specificity[-1]
    mean, modes = face_points(head)
    np.testing.assert_allclose(mean, head.landmarks(head.template)[head.face320], atol=1e-6)
    assert modes.shape == (head.identity_count, 320, 3)


@pytest.mark.parametrize("peers", [("a/head.npz", "b/head.npz"), ("a/densefit.npz",)])
def test_models_of_one_name_are_refused(
    tmp_path: Path, peers: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    """One would stand for the other in the table."""
    options = [word for peer in peers for word in ("--peer", peer)]
    assert main(["evaluate", "model", "--heads", str(tmp_path), *options]) == 2
    assert f"two models are called '{Path(peers[0]).stem}'" in capsys.readouterr().err
