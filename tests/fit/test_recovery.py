"""The fit recovers what landmarks were made from: a small head, every kind of rig and of gap."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from densefit.errors import InputError
from densefit.fit import (
    FitOptions,
    FitResult,
    Observations,
    TakeLandmarks,
    fit,
    fit_same_person,
)
from densefit.fit.joint_fit import FOCAL_UNTOLD
from densefit.head.rotation import rotation_matrix
from tests.fit.synthetic import (
    Truth,
    camera_ring,
    hide,
    look_at_camera,
    observe,
    sample_truth,
    tiny_head,
    turned,
    world_landmarks,
)

# The landmarks of these tests are what the options call perfect: independent errors of known size.
PLAIN = FitOptions(correlation=1.0, hidden_weight=1.0, model_sigma=0.0, sigma_scale=1.0)


@pytest.fixture(scope="module")
def head():
    return tiny_head()


def errors_mm(head, result: FitResult, truth: Truth) -> np.ndarray:
    """Distances (t, L) of the landmarks in the world, mm, of the frames that have a pose."""
    at = np.flatnonzero(np.isfinite(result.rotation[:, 0]))
    motion = [result.expression, result.rotation, result.translation, result.joints]
    got = world_landmarks(head, result.identity, *(a[at] for a in motion))
    return 1e3 * np.linalg.norm(got - truth.world_landmarks(head)[at], axis=2)


def test_three_cameras_with_outliers(head):
    truth = sample_truth(head, 12)
    cameras = camera_ring(3)
    result = fit(head, cameras, observe(head, cameras, truth, 1.0, outliers=0.05), PLAIN)
    errors = errors_mm(head, result, truth)
    assert np.median(errors) < 0.4
    assert np.percentile(errors, 95) < 1.0
    assert np.abs(result.identity - truth.identity).max() < 0.15
    assert np.abs(result.joints[:, 2:] - truth.joints[:, 2:]).max() < 0.06
    assert result.scale == "calibrated" and result.valid.all()
    assert np.all((result.expression >= 0) & (result.expression <= 1))
    np.testing.assert_allclose(result.residual_px, 0.8, atol=0.5)
    assert not result.joints[:, 1].any()
    gaze = head.gaze_expression(result.joints)
    np.testing.assert_allclose(result.expression[:, [1, 8]], gaze[:, [1, 8]], atol=1e-6)


def test_deviations_say_how_wrong_the_fit_is(head):
    """Errors over posterior deviations are about one, in the mean over many unknowns."""
    cameras = camera_ring(3)
    ratios: dict[str, list[float]] = {"identity": [], "rotation": [], "translation": []}
    for seed in range(4):
        truth = sample_truth(head, 6, seed)
        result = fit(head, cameras, observe(head, cameras, truth, 1.0, seed=seed), PLAIN)
        relative = np.swapaxes(rotation_matrix(truth.rotation), 1, 2) @ rotation_matrix(
            result.rotation
        )
        turn = np.stack([relative[:, 2, 1], relative[:, 0, 2], relative[:, 1, 0]], 1)
        ratios["identity"] += list((result.identity - truth.identity) / result.identity_std)
        ratios["rotation"] += list((turn / result.rotation_std).ravel())
        ratios["translation"] += list(
            ((result.translation - truth.translation) / result.translation_std).ravel()
        )
    for name, values in ratios.items():
        assert 0.4 < np.sqrt(np.mean(np.square(values))) < 1.8, name


def test_one_calibrated_camera(head):
    truth = sample_truth(head, 10)
    cameras = camera_ring(1)
    result = fit(head, cameras, observe(head, cameras, truth, 0.5), PLAIN)
    errors = errors_mm(head, result, truth)
    assert np.median(errors) < 8  # its distance hangs on the size of the head
    shape = errors_mm(
        head, replace(result, rotation=truth.rotation, translation=truth.translation), truth
    )
    assert np.median(shape) < 0.8
    assert result.scale == "prior"


@pytest.mark.parametrize("focal", [900.0, 2600.0])
def test_unknown_focal_length(head, focal):
    camera = look_at_camera(0.1, 0.1, 0.6 * focal / 1000, focal, (1280, 960), "phone")
    truth = sample_truth(head, 8)
    observations = observe(head, [camera], truth, 0.5)
    bare = replace(camera, K=None, T_camera_world=None)
    result = fit(head, [bare], observations, PLAIN)
    found = result.cameras[0]
    assert abs(np.log(found.K[0, 0] / focal)) < 0.12
    # About what perspective leaves untold, and what the prior adds.
    assert 0.8 < found.std["focal"] / found.K[0, 0] / FOCAL_UNTOLD < 1.1
    np.testing.assert_allclose(found.K[:2, 2], [639.5, 479.5])
    np.testing.assert_array_equal(found.T_camera_world, np.eye(4))
    local = turned(truth, camera.T_camera_world[:3, :3], camera.T_camera_world[:3, 3])
    relative = rotation_matrix(local.rotation).swapaxes(1, 2) @ rotation_matrix(result.rotation)
    assert np.arccos(np.clip((np.trace(relative, axis1=1, axis2=2) - 1) / 2, -1, 1)).max() < 0.05


def test_a_given_focal_length_stays_as_sure_as_it_was(head):
    camera = look_at_camera(0.1, 0.1, 0.6, 1400.0, (1280, 960), "phone")
    truth = sample_truth(head, 4)
    refined = replace(PLAIN, refine_cameras="all")
    result = fit(head, [camera], observe(head, [camera], truth, 0.5), refined)
    found = result.cameras[0]
    assert found.std["focal"] / found.K[0, 0] <= PLAIN.refine_focal_sd
    assert abs(np.log(found.K[0, 0] / 1400.0)) < 3 * PLAIN.refine_focal_sd


def test_unknown_extrinsics(head):
    cameras = camera_ring(3)
    truth = sample_truth(head, 12)
    observations = observe(head, cameras, truth, 0.5)
    part = [cameras[0], *(replace(c, T_camera_world=None) for c in cameras[1:])]
    result = fit(head, part, observations, PLAIN)
    assert result.scale == "prior"
    for found, camera in zip(result.cameras, cameras, strict=True):
        turn = found.T_camera_world[:3, :3] @ camera.T_camera_world[:3, :3].T
        assert np.arccos(np.clip((np.trace(turn) - 1) / 2, -1, 1)) < 0.02
        assert np.linalg.norm(found.position - camera.position) < 0.03
    assert result.cameras[1].std["rotation"] > 0
    assert 0 < result.scale_std < 0.2


@pytest.mark.parametrize("what", ["extrinsics", "all"])
def test_given_cameras_are_refined(head, what):
    """Cameras knocked by 0.3 degrees and 2 mm come back; a wrong focal length too with `all`."""
    cameras = camera_ring(3)
    observations = observe(head, cameras, sample_truth(head, 12), 0.3)
    rng = np.random.default_rng(0)
    knocked = []
    for camera in cameras:
        away = np.eye(4)
        away[:3, :3] = rotation_matrix(rng.normal(size=(1, 3)) * 3e-3)[0]
        away[:3, 3] = rng.normal(size=3) * 1.2e-3
        K = camera.K.copy()
        K[[0, 1], [0, 1]] *= 1 + (what == "all") * 0.01 * rng.normal()
        knocked.append(replace(camera, T_camera_world=away @ camera.T_camera_world, K=K))

    def apart(found) -> np.ndarray:
        """Angles (rad) between neighbours against those of the true cameras."""
        turns = [
            found[i].T_camera_world[:3, :3] @ found[0].T_camera_world[:3, :3].T
            @ (cameras[i].T_camera_world[:3, :3] @ cameras[0].T_camera_world[:3, :3].T).T
            for i in (1, 2)
        ]  # fmt: skip
        return np.array([np.arccos(np.clip((np.trace(t) - 1) / 2, -1, 1)) for t in turns])

    off = fit(head, knocked, observations, PLAIN)
    for given, kept in zip(knocked, off.cameras, strict=True):
        np.testing.assert_array_equal(given.T_camera_world, kept.T_camera_world)
        np.testing.assert_array_equal(given.K, kept.K)
    result = fit(head, knocked, observations, replace(PLAIN, refine_cameras=what))
    assert (apart(result.cameras) < 0.35 * apart(knocked)).all()
    assert np.nanmedian(result.residual_px) < 0.8 * np.nanmedian(off.residual_px)
    assert result.scale == "calibrated" and result.scale_std == 0
    assert set(result.cameras[0].std) == {"rotation", "translation"} | (
        {"focal"} if what == "all" else set()
    )
    if what == "all":
        focal = [c.K[0, 0] / 1500 - 1 for c in (*result.cameras, *knocked)]
        assert np.std(focal[:3]) < 0.5 * np.std(focal[3:])


def test_profile_and_upside_down_world(head):
    """No start depends on the face looking into the camera or on the world's axes."""
    cameras = [look_at_camera(np.deg2rad(80), 0.2, 0.9, 1500.0, (1280, 960), "side")]
    truth = sample_truth(head, 6)
    result = fit(head, cameras, observe(head, cameras, truth, 0.5), PLAIN)
    assert np.abs(result.rotation - truth.rotation).max() < 0.05
    over = np.diag([1.0, -1.0, -1.0])
    flipped = turned(truth, over, np.array([0.1, 0.2, 2.0]))
    transform = np.eye(4)
    transform[:3, :3], transform[:3, 3] = over, [0.1, 0.2, 2.0]
    moved = [
        replace(c, T_camera_world=c.T_camera_world @ np.linalg.inv(transform))
        for c in camera_ring(2)
    ]
    result = fit(head, moved, observe(head, moved, flipped, 0.5), PLAIN)
    assert np.median(errors_mm(head, result, flipped)) < 0.6
    assert np.linalg.norm(np.diff(result.rotation, axis=0), axis=1).max() < 0.5  # no jumps at pi


def test_gaps_and_cameras_that_miss_frames(head):
    cameras = camera_ring(3)
    truth = sample_truth(head, 40)
    seen = np.ones((40, 3), bool)
    seen[5:9] = False  # 0.17 s: bridged
    seen[15:30] = False  # 0.53 s: left out
    seen[32, 1:] = False
    seen[:, 2] = False
    seen[:3, 2] = True
    result = fit(head, cameras, hide(observe(head, cameras, truth, 0.5), seen), PLAIN)
    np.testing.assert_array_equal(result.valid, seen.any(axis=1))
    posed = np.isfinite(result.rotation[:, 0])
    assert posed[5:9].all() and not posed[15:30].any()
    for name in ("expression", "translation", "joints", "expression_std", "translation_std"):
        np.testing.assert_array_equal(
            np.isfinite(getattr(result, name)).reshape(40, -1).all(1), posed
        )
    np.testing.assert_array_equal(np.isfinite(result.residual_px), seen)
    errors = errors_mm(head, result, truth)
    assert np.median(errors) < 0.4
    assert errors.max() < 12  # inside the bridged gap the motion is only smooth
    assert result.translation_std[7].mean() > 3 * result.translation_std[4].mean()


def test_independent_frames_and_fixed_identity(head):
    cameras = camera_ring(2)
    truth = sample_truth(head, 4, fps=2.0)
    observations = observe(head, cameras, truth, 0.5)
    shuffled = Observations(
        observations.xy[::-1], observations.sigma[::-1], observations.valid[::-1], observations.time
    )
    options = replace(PLAIN, independent_frames=True)
    result, backwards = (
        fit(head, cameras, observations, options),
        fit(head, cameras, shuffled, options),
    )
    assert np.median(errors_mm(head, result, truth)) < 0.6
    np.testing.assert_allclose(backwards.translation[::-1], result.translation, atol=2e-5)
    known = fit(head, cameras, observations, replace(options, identity=truth.identity))
    np.testing.assert_array_equal(known.identity, truth.identity)
    assert not known.identity_std.any()
    assert np.median(errors_mm(head, known, truth)) < np.median(errors_mm(head, result, truth))


@pytest.mark.parametrize("unknown", ["identity", "identity and cameras"])
def test_long_take_in_windows_agrees_with_joint_solve(head, unknown):
    """Identity from 12 of 36 frames, polished over windows of all: that of one solve of all."""
    cameras = camera_ring(2)
    truth = sample_truth(head, 36)
    observations = observe(head, cameras, truth, 0.5)
    options = PLAIN
    if "cameras" in unknown:
        options = replace(PLAIN, refine_cameras="extrinsics")
    whole = fit(head, cameras, observations, options)
    windows = fit(
        head, cameras, observations,
        replace(options, joint_frames=16, keyframes=12, window=14, overlap=8),
    )  # fmt: skip
    apart = head.neutral(windows.identity) - head.neutral(whole.identity)
    assert np.linalg.norm(apart, axis=1).mean() < 0.01e-3
    assert np.abs(windows.expression - whole.expression).max() < 0.05
    # The whole world is held by the cameras' priors alone, so look from the cameras.
    for a, b in zip(windows.cameras, whole.cameras, strict=True):
        positions = [
            r.translation @ c.T_camera_world[:3, :3].T + c.T_camera_world[:3, 3]
            for r, c in ((windows, a), (whole, b))
        ]
        assert np.abs(positions[0] - positions[1]).max() < 1.5e-4
    for name in ("identity_std", "expression_std", "rotation_std", "translation_std"):
        ratio = getattr(windows, name) / np.maximum(getattr(whole, name), 1e-12)
        # Neighbours of a piece stand still in its share of the matrix: pieces are short here.
        assert 0.6 < np.median(ratio[ratio > 0]) < 1.3, name


def test_takes_of_one_person_share_an_identity(head):
    """Three short takes, two rigs: the shared identity is nearer the truth than each take's own."""
    cameras = [camera_ring(2), camera_ring(1), camera_ring(2, focal=1100.0)]
    truths = [sample_truth(head, 5, seed) for seed in range(3)]
    truths = [replace(t, identity=truths[0].identity) for t in truths]
    seen = [
        observe(head, c, t, 1.5, seed=n)
        for n, (c, t) in enumerate(zip(cameras, truths, strict=True))
    ]
    apart = [fit(head, c, o, PLAIN) for c, o in zip(cameras, seen, strict=True)]
    shares: list[float] = []
    together = fit_same_person(
        head, [TakeLandmarks(c, o) for c, o in zip(cameras, seen, strict=True)], PLAIN,
        shares.append,
    )  # fmt: skip
    assert len({s for s in shares if 0.5 < s < 1}) > 5 and shares[-1] == 1

    def error(result) -> float:
        return float(np.abs(result.identity - truths[0].identity).mean())

    for result in together[1:]:
        np.testing.assert_array_equal(result.identity, together[0].identity)
    assert error(together[0]) < 0.8 * np.mean([error(result) for result in apart])
    for own, shared, truth in zip(apart, together, truths, strict=True):
        by_itself = np.median(errors_mm(head, own, truth))
        assert np.median(errors_mm(head, shared, truth)) < max(0.6, 1.1 * by_itself)
        assert (shared.identity_std < own.identity_std).all()
    # One take is that take's own fit.
    alone = fit_same_person(head, [TakeLandmarks(cameras[0], seen[0])], PLAIN)[0]
    np.testing.assert_allclose(alone.identity, apart[0].identity, atol=5e-3)


def test_sigma_scale_is_measured(head):
    cameras = camera_ring(2)
    observations = observe(head, cameras, sample_truth(head, 8), 2.0)
    wrong = replace(observations, sigma=observations.sigma / 3)
    result = fit(head, cameras, wrong, replace(PLAIN, sigma_scale=None, sigma_floor_px=0.01))
    np.testing.assert_allclose(result.sigma_scale, 3, rtol=0.25)


def test_landmarks_that_are_left_out_do_not_count(head):
    cameras = camera_ring(2)
    truth = sample_truth(head, 6)
    observations = observe(head, cameras, truth, 0.5)
    observations.xy[:, :, 68:] += 300
    errors = errors_mm(head, fit(head, cameras, observations, replace(PLAIN, landmarks=68)), truth)
    assert np.median(errors[:, :68]) < 1.0


def test_without_sigma_all_landmarks_count_alike(head):
    cameras = camera_ring(2)
    observations = observe(head, cameras, sample_truth(head, 4), 1.0)
    flat = np.repeat(np.median(observations.sigma, axis=2, keepdims=True), 90, axis=2)
    expected = fit(head, cameras, replace(observations, sigma=flat), PLAIN)
    result = fit(head, cameras, observations, replace(PLAIN, use_sigma=False))
    np.testing.assert_allclose(result.identity, expected.identity, atol=1e-6)
    usual = fit(head, cameras, observations, PLAIN)
    assert np.abs(usual.identity - expected.identity).max() > 1e-3


def test_errors_name_the_problem(head):
    cameras = camera_ring(2)
    observations = observe(head, cameras, sample_truth(head, 3), 1.0)
    with pytest.raises(InputError, match="2 cameras, but 1"):
        fit(head, cameras[:1], observations)
    with pytest.raises(InputError, match="nothing to fit"):
        fit(head, cameras, hide(observations, np.zeros((3, 2), bool)))
    broken = [replace(c, dist=np.array([-9.0, 0, 0, 0])) for c in cameras]
    with pytest.raises(InputError, match="cam0, cam1.*back through the lens"):
        fit(head, broken, replace(observations, xy=observations.xy + 500))
    with pytest.raises(InputError, match="6 coefficients"):
        fit(head, cameras, observations, FitOptions(identity=np.zeros(9)))
    with pytest.raises(InputError, match="90"):
        fit(
            head,
            cameras,
            replace(observations, xy=observations.xy[:, :, 1:], sigma=observations.sigma[:, :, 1:]),
        )
