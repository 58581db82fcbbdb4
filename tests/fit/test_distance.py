"""A head before one camera comes out at its mean distance, not at the most probable one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from densefit.fit import FitOptions, fit
from densefit.fit.joint_fit import JointFit
from densefit.fit.solver import minimize
from tests.fit.synthetic import Truth, camera_ring, hide, observe, sample_truth, tiny_head

CAMERA = camera_ring(1)
CENTRE = -CAMERA[0].T_camera_world[:3, :3].T @ CAMERA[0].T_camera_world[:3, 3]
OPTIONS = FitOptions(correlation=1.0, identity_weight=1.0, model_sigma=0.0, tolerance=1e-9)


def distance(translation: np.ndarray) -> np.ndarray:
    return np.linalg.norm(translation - CENTRE, axis=-1)


def person(seed: int, frames: int = 3) -> tuple[object, Truth]:
    """A head of many modes, and a take of it that its priors fit."""
    head = tiny_head(modes=40, seed=3)
    truth = sample_truth(head, frames, seed=seed)
    return head, replace(truth, identity=np.random.default_rng(seed).normal(size=40))


def test_one_step_leads_to_the_minimum_with_the_term() -> None:
    head, truth = person(1)
    options = replace(OPTIONS, double=True)
    job = JointFit(head, CAMERA, observe(head, CAMERA, truth, 2.0), options, np.arange(3))
    start = job.start()
    assert job.told is not None and 5 < job.told.identity < 40
    # The same energy with the term in it, minimised from there.
    motion = start.state.motion
    planes = job.adjusted(
        job.raw_planes(start.picked), start.state.cameras, motion.rotation, motion.translation
    )
    planes = replace(planes, precision=planes.precision / start.sigma_scale[None, :, None] ** 2)
    priors = job.priors(start.picked)
    assert priors.outward is not None
    there = minimize(job.model, planes, priors, start.state, options, True, (4.0,))
    moved = distance(there.state.motion.translation.numpy())
    stepped = distance(motion.translation.numpy())
    before = minimize(
        job.model, planes, replace(priors, outward=None), start.state, options, True, (4.0,)
    )
    near = distance(before.state.motion.translation.numpy())
    assert (moved > near).all()
    np.testing.assert_allclose((stepped - near) / (moved - near), 1, atol=0.2)


def test_people_are_as_often_too_near_as_too_far() -> None:
    errors, before = [], []
    for seed in range(12):
        head, truth = person(seed, 2)
        seen = observe(head, CAMERA, truth, 2.0, seed=seed + 50)
        found = fit(head, CAMERA, seen, OPTIONS)
        errors.append(np.log(distance(found.translation) / distance(truth.translation)).mean())
        probable = fit(head, CAMERA, seen, replace(OPTIONS, distance_weight=0.0))
        before.append(np.log(distance(probable.translation) / distance(truth.translation)).mean())
    scatter = np.std(errors) / np.sqrt(len(errors))
    assert (np.array(errors) > before).all()
    assert abs(np.mean(errors)) < min(2.5 * scatter, abs(np.mean(before)))


def test_several_cameras_know_the_distance() -> None:
    head, truth = person(2)
    cameras = camera_ring(2)
    seen = observe(head, cameras, truth, 2.0)
    both = JointFit(head, cameras, seen, OPTIONS, np.arange(3))
    both.start()
    assert both.told is None and both.priors(np.arange(3)).outward is None
    one = hide(seen, np.array([[True, False]] * 3))
    alone = JointFit(head, cameras, one, OPTIONS, np.arange(3))
    alone.start()
    assert alone.told is not None
    assert torch.equal(alone.priors(np.arange(3)).outward.share > 0, torch.ones(3, dtype=bool))
