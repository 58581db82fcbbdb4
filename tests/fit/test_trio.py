"""The shipped head and the sample rig: true landmarks with 1 px noise give the head back."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import calibration
from densefit.fit import Observations, fit
from densefit.head import load_head
from densefit.head.rotation import rotation_matrix
from tests.fit.test_intersection import lid_depth, lips_behind_teeth

TRIO = Path(__file__).resolve().parents[2] / "sample_rigs" / "trio"


def test_half_a_millimetre_from_true_landmarks():
    head, cameras = load_head(), list(calibration.read_rig(TRIO / "rig.yaml").cameras.values())
    truth = np.load(TRIO / "truth.npz", allow_pickle=False)
    frames = slice(0, 60, 4)

    def world(identity, expression, rotation, translation, joints):
        local = head.vertices(identity, expression, joints)
        turn = rotation_matrix(np.asarray(rotation, float))
        return np.einsum("tij,tvj->tvi", turn, local) + np.asarray(translation)[:, None]

    names = ("expression", "rotation", "translation", "joints")
    vertices = world(truth["identity"], *(truth[n][frames] for n in names))
    points = head.landmarks(vertices)
    xy = np.stack(
        [c.project(points.reshape(-1, 3)).reshape(*points.shape[:2], 2) for c in cameras], 1
    )
    xy += np.random.default_rng(0).normal(size=xy.shape)
    observations = Observations(
        xy.astype(np.float32), np.ones(xy.shape[:3], np.float32), np.ones(xy.shape[:2], bool),
        truth["time"][frames],
    )  # fmt: skip
    result = fit(head, cameras, observations)
    fitted = world(result.identity, *(getattr(result, n) for n in names))
    skin = np.unique(head.triangles[head.part_triangles("skin", "scalp")])
    front = skin[head.template[skin, 2] > -0.08]
    errors = 1e3 * np.linalg.norm(fitted - vertices, axis=2)[:, front]
    assert np.median(errors) < 0.5
    assert np.percentile(errors, 95) < 1.2
    parts = (result.identity, result.expression, result.joints)
    assert lid_depth(head, *parts).max() < 0.3e-3
    assert lips_behind_teeth(head, *parts) == 0
