"""Skin stays out of the eyeballs and lips before the teeth."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import open3d as o3d
import pytest
import torch

from densefit.fit import FitOptions, fit, solver
from densefit.fit.contact_model import contact_model, lip_vertices
from densefit.fit.intersection import contact_points, contact_system, find_contacts
from densefit.fit.landmark_model import gaze_values, landmark_model
from densefit.fit.linearization import linearize
from densefit.head import load_head
from densefit.head.model import EXPRESSION_INDEX
from tests.fit.synthetic import Truth, camera_ring, observe, sample_truth

f8 = torch.float64


@pytest.fixture(scope="module")
def head():
    return load_head()


def lid_depth(head, identity, expression, joints) -> np.ndarray:
    """Depth (T, N) in m of the face's vertices in the eyeballs, from the mesh itself."""
    vertices = head.vertices(identity, expression, joints)
    skin = np.unique(head.triangles[head.part_triangles("skin")])
    balls = np.unique(head.triangles[head.part_triangles("eyes")])
    out = []
    for joint in (2, 3):
        centre = head.joint_positions(identity)[joint]
        own = balls[np.linalg.norm(head.template[balls] - head.joint_centres[joint], axis=1) < 0.02]
        radius = np.linalg.norm(vertices[0, own] - centre, axis=1).mean()
        out.append(radius - np.linalg.norm(vertices[:, skin] - centre, axis=2))
    return np.concatenate(out, 1)


def lips_behind_teeth(head, identity, expression, joints) -> int:
    """Vertices of the lips that have a tooth before them, seen from the front, over all frames."""
    lips, count = lip_vertices(head), 0
    teeth = head.triangles[head.part_triangles("teeth")].astype(np.uint32)
    for vertices in head.vertices(identity, expression, joints).astype(np.float32):
        scene = o3d.t.geometry.RaycastingScene()
        scene.add_triangles(o3d.core.Tensor(vertices), o3d.core.Tensor(teeth))
        rays = np.concatenate([vertices[lips], np.tile(np.float32([0, 0, 1]), (len(lips), 1))], 1)
        hit = scene.cast_rays(o3d.core.Tensor(rays))["t_hit"].numpy()
        count += int(np.isfinite(hit).sum())
    return count


def sunken(head, frames: int, seed: int = 22) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Identity, expressions and eyes of a person whose lids and lips enter eyes and teeth."""
    model = contact_model(head, f8)
    # Whose lips enter the teeth depends on the modes: the first person with both kinds is taken.
    for attempt in range(seed, seed + 40):
        rng = np.random.default_rng(attempt)
        identity = 2.0 * rng.normal(size=head.identity_count)
        expression = np.zeros((frames, 52))
        for name in ("mouthPressLeft", "mouthPressRight", "mouthRollLower", "mouthRollUpper",
                     "eyeBlinkLeft", "mouthShrugLower"):  # fmt: skip
            expression[:, EXPRESSION_INDEX[name]] = rng.uniform(0.1, 0.9, frames)
        points = contact_points(model, torch.tensor(identity), torch.tensor(expression))
        against = find_contacts(model, points).against
        if int((against < 0).sum()) > 5 and int((against >= 0).sum()) > 5:
            break
    else:
        raise AssertionError("nobody's lips and lids sink in")
    return identity, expression, 0.2 * rng.normal(size=(frames, 4))


def test_derivatives_equal_autograd(head):
    """For a fixed set of contacts the Gauss-Newton system is that of the depths' autograd."""
    model, full = contact_model(head, f8), landmark_model(head, f8)
    identity, expression, eyes = (torch.tensor(a) for a in sunken(head, 2))
    expression[:, full.gaze] = gaze_values(full, eyes)[0]
    slope = gaze_values(full, eyes)[1]
    sd = 1e-4
    system = contact_system(
        model, identity, expression, full.free, (full.gaze, slope), sd, with_identity=True
    )

    def touching(identity, free, eyes):
        psi = torch.zeros(2, 52, dtype=f8).index_copy(1, full.free, free)
        psi = psi.index_copy(1, full.gaze, gaze_values(full, eyes)[0])
        return find_contacts(model, contact_points(model, identity, psi))

    def cost(*leaves):
        return touching(*leaves).energy(sd, 2).sum()

    def depths(free):
        return touching(identity, free, eyes).depth

    inputs = (identity, expression[:, full.free], eyes)
    leaves = [x.clone().requires_grad_(True) for x in inputs]
    total = cost(*leaves)
    total.backward()
    assert float(system.cost.sum()) == pytest.approx(float(total.detach()))
    by_identity, by_free, by_eyes = (x.grad for x in leaves)
    scale = float(by_free.abs().max())
    torch.testing.assert_close(system.gradient[:, :44], by_free, rtol=1e-5, atol=1e-6 * scale)
    torch.testing.assert_close(system.gradient[:, 53:], by_eyes, rtol=1e-5, atol=1e-6 * scale)
    assert not system.gradient[:, 44:53].any()
    torch.testing.assert_close(
        system.identity_gradient, by_identity, rtol=1e-5, atol=1e-6 * float(by_identity.abs().max())
    )
    free = expression[:, full.free]
    contacts = find_contacts(model, contact_points(model, identity, expression))
    columns = []
    for e in range(44):
        step = torch.zeros_like(free)
        step[:, e] = 1e-6
        columns.append((depths(free + step) - depths(free - step)) / 2e-6)
    rows = torch.stack(columns, 1) / sd
    for t in range(2):
        own = rows[contacts.frame == t]
        block = system.blocks[t, :44, :44]
        torch.testing.assert_close(block, own.T @ own, rtol=1e-4, atol=1e-5 * float(block.max()))


def test_a_head_without_eyes_and_teeth_has_no_contacts(head):
    bare = replace(head, part_names=tuple(f"x{n}" for n in head.part_names))
    assert contact_model(bare, f8).count == 0


@pytest.mark.parametrize("weight", [True, False])
def test_lids_and_lips_stay_outside_where_landmarks_pull_them_in(head, weight):
    """Landmarks of a face that is impossible; without the term the fit follows them inside."""
    identity, expression, eyes = sunken(head, 6)
    joints = np.zeros((6, 4, 3))
    joints[:, 2, :2], joints[:, 3, :2] = eyes[:, :2] * 0.3, eyes[:, :2] * 0.3
    truth = Truth(
        identity, head.with_gaze(expression, joints), np.zeros((6, 3)), np.zeros((6, 3)), joints,
        np.arange(6) / 30,
    )  # fmt: skip
    cameras = camera_ring(3)
    options = FitOptions() if weight else FitOptions(contact_sd=np.inf)
    result = fit(head, cameras, observe(head, cameras, truth, 0.5), options)
    parts = (result.identity, result.expression, result.joints)
    deepest = lid_depth(head, *parts).max()
    behind = lips_behind_teeth(head, *parts)
    if weight:
        assert deepest < 0.3e-3 and behind == 0
    else:
        assert behind > 0  # the head itself keeps the lids of everybody off the eyeballs


def test_contacts_give_way_in_loose_stages(head, monkeypatch):
    """As outliers do: lips that a first long step pushes through the teeth must not stop it."""
    seen = []

    def spy(model, planes, priors, state, loss, with_identity):
        seen.append((loss.scale, priors.contact_sd))
        return linearize(model, planes, priors, state, loss, with_identity)

    monkeypatch.setattr(solver, "linearize", spy)
    options = FitOptions()
    rig, truth = camera_ring(2), sample_truth(head, 2)
    fit(head, rig, observe(head, rig, truth, 1.0), options)
    assert {scale for scale, _ in seen} == {*options.robust_start, options.robust_scale}
    for scale, sd in seen:
        assert sd == pytest.approx(options.contact_sd * scale / options.robust_scale)
