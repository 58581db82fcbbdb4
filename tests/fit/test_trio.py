"""The shipped head and the sample rig: true landmarks with 1 px noise give the head back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

import calibration
from densefit.fit import Observations, fit
from densefit.head import load_head
from densefit.head.rotation import rotation_matrix
from tests.fit.test_intersection import lid_depth, lips_behind_teeth

MOTION = ("expression", "rotation", "translation", "joints")
TRIO = Path(__file__).resolve().parents[2] / "sample_rigs" / "trio"


def take(frames: slice):
    """The sample rig's head, cameras, true vertices (T, V, 3), and true landmarks with 1 px
    noise."""
    head, cameras = load_head(), list(calibration.read_rig(TRIO / "rig.yaml").cameras.values())
    truth = np.load(TRIO / "truth.npz", allow_pickle=False)
    vertices = world(head, truth["identity"], *(truth[n][frames] for n in MOTION))
    points = head.landmarks(vertices)
    xy = np.stack(
        [c.project(points.reshape(-1, 3)).reshape(*points.shape[:2], 2) for c in cameras], 1
    )
    xy += np.random.default_rng(0).normal(size=xy.shape)
    observations = Observations(
        xy.astype(np.float32), np.ones(xy.shape[:3], np.float32), np.ones(xy.shape[:2], bool),
        truth["time"][frames],
    )  # fmt: skip
    return head, cameras, vertices, observations


def world(head, identity, expression, rotation, translation, joints) -> np.ndarray:
    """Vertices (T, V, 3) in the world."""
    local = head.vertices(identity, expression, joints)
    turn = rotation_matrix(np.asarray(rotation, float))
    return np.einsum("tij,tvj->tvi", turn, local) + np.asarray(translation)[:, None]


def test_half_a_millimetre_from_true_landmarks():
    head, cameras, vertices, observations = take(slice(0, 60, 3))
    result = fit(head, cameras, observations)
    fitted = world(head, result.identity, *(getattr(result, n) for n in MOTION))
    skin = np.unique(head.triangles[head.part_triangles("skin", "scalp")])
    front = skin[head.template[skin, 2] > -0.08]
    errors = 1e3 * np.linalg.norm(fitted - vertices, axis=2)[:, front]
    assert np.median(errors) < 0.5
    assert np.percentile(errors, 95) < 1.2
    parts = (result.identity, result.expression, result.joints)
    assert lid_depth(head, *parts).max() < 0.3e-3
    assert lips_behind_teeth(head, *parts) == 0


def test_extrinsics_come_from_the_face():
    """All cameras of the rig lose their places: found again up to a similarity."""
    head, cameras, _, observations = take(slice(0, 60, 10))
    lost = [replace(c, T_camera_world=None) for c in cameras]
    result = fit(head, lost, observations)
    turns, centres = relative(result.cameras)
    true_turns, true_centres = relative(cameras)
    scale = np.sum(centres * true_centres) / np.sum(centres * centres)
    baseline = max(np.linalg.norm(a - b) for a in true_centres for b in true_centres)
    cosine = (np.einsum("cij,cij->c", turns, true_turns) - 1) / 2
    assert np.degrees(np.arccos(np.clip(cosine, -1, 1))).max() < 0.5
    assert np.linalg.norm(scale * centres - true_centres, axis=1).max() < 0.01 * baseline
    assert abs(scale - 1) < 0.05
    assert result.scale == "prior" and 0 < result.scale_std < 0.05


def relative(cameras) -> tuple[np.ndarray, np.ndarray]:
    """Rotations (C, 3, 3) and centres (C, 3) in the first camera's frame."""
    first = cameras[0].T_camera_world
    turns = np.stack([c.T_camera_world[:3, :3] @ first[:3, :3].T for c in cameras])
    centres = np.stack([first[:3, :3] @ c.position + first[:3, 3] for c in cameras])
    return turns, centres
