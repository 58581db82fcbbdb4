"""Shapes and joints reproduce the fit, with correctives where the model does not add up."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import pytest

from densefit.export.glb import write_glb
from densefit.export.mesh_arrays import vertex_normals
from densefit.export.rigged import CONSTANT, TOLERANCE, _with_targets, rigged_head
from densefit.export.scene import ExportOptions, ExportScene, frame_vertices, load_scene
from densefit.export.target_normals import target_normals
from densefit.head.model import HeadModel
from densefit.head.rotation import rotation_matrix
from tests.export.gltf_player import GltfPlayer


@dataclass(frozen=True)
class CollidingHead(HeadModel):
    """Two pairs of shapes that push each other away, which no sum of single shapes shows."""

    def vertices(self, identity: np.ndarray, expression: np.ndarray, joints: np.ndarray):
        psi = np.asarray(expression, np.float32)
        both = np.stack([psi[:, 0] * psi[:, 17], psi[:, 30] * psi[:, 31]], axis=1)
        plain = super().vertices(identity, expression, joints)
        turn = rotation_matrix(np.asarray(joints, np.float32)[:, 0])
        push = np.array([[0.002, 0, 0.001], [0, -0.003, 0]], np.float32)
        moved = np.einsum("tk,kd->td", both, push)[:, None] * self.skinning[:, 1:2]
        weighted = self.skinning[:, :1] * (np.einsum("tij,tvj->tvi", turn, moved) - moved)
        return plain + moved + weighted


def colliding(scene: ExportScene) -> ExportScene:
    head = scene.head
    return replace(
        scene, head=CollidingHead(**{f.name: getattr(head, f.name) for f in fields(head)})
    )


def test_a_model_that_adds_up_needs_no_correctives(scene: ExportScene):
    rigged = rigged_head(scene)
    assert rigged.names == tuple(scene.head.expression_names)
    expected = scene.expression(scene.posed_frames)
    assert np.array_equal(rigged.weights, expected)


def test_correctives_are_few_and_complete(scene: ExportScene, tmp_path: Path):
    tangled = colliding(scene)
    rigged = rigged_head(tangled)
    extra = rigged.names[52:]
    numbered = tuple(f"corrective_{k}" for k in range(len(extra) - 1))
    assert numbered and extra == (*numbered, CONSTANT)
    # Two collisions, smeared a little by the skin that is turned back: never one for each frame.
    assert len(extra) < len(tangled.posed_frames)
    # Blender and others cut weights off below 0 and above 1.
    shares = rigged.weights[:, 52:]
    assert shares.min() == 0 and shares.max() == 1 and (shares[:, -1] == 1).all()
    assert np.array_equal(rigged.neutral, tangled.neutral())
    player = GltfPlayer(write_glb(tangled, tmp_path)[0])
    expected = frame_vertices(tangled.fit, tangled.head) @ tangled.axes("y").T
    plain = GltfPlayer(write_glb(scene, tmp_path / ".." / tmp_path.name)[0])
    count, off = len(scene.head.template), 0.0
    for frame in tangled.posed_frames:
        moment = tangled.fit.time[frame] - tangled.fit.time[0]
        assert np.abs(player.vertices(moment)[:count] - expected[frame]).max() < 2 * TOLERANCE
        off = max(off, np.abs(plain.vertices(moment)[:count] - expected[frame]).max())
    assert off > 20 * TOLERANCE, "without correctives the test's head is visibly wrong"


def test_weights_of_any_range_become_shares(scene: ExportScene):
    """Weights below zero and above one, of one sign only, constant, and none at all."""
    plain = rigged_head(scene)
    rng = np.random.default_rng(3)
    basis = rng.normal(0, 1e-3, (5, plain.neutral.size))
    basis[:, :30] *= 1e-6  # what is not worth a number in the file
    count = len(plain.weights)
    ramp = np.linspace(0, 1, count)
    weights = np.stack([6 * ramp - 3, 2 + ramp, -1 - ramp, np.full(count, -2.0), 0 * ramp], axis=1)
    fuller = _with_targets(plain, basis, weights)
    shares = fuller.weights[:, 52:]
    assert shares.min() >= 0 and shares.max() <= 1
    expected = plain.shapes(plain.weights) + (weights @ basis).reshape(count, -1, 3)
    np.testing.assert_allclose(fuller.shapes(fuller.weights), expected, atol=1e-7)
    assert not fuller.targets[52:, :10].any()
    # Of one sign, as in a single picture: nothing is to be taken off.
    assert CONSTANT not in _with_targets(plain, basis[1:4], weights[:, 1:4]).names


def test_normals_follow_the_correctives(scene: ExportScene):
    """Sums of the targets' normals are near those of the sums of the targets."""
    rigged = rigged_head(colliding(scene))
    triangles, neutral = scene.surface.triangles, rigged.neutral
    normals = vertex_normals(neutral, triangles)
    added = np.stack(list(target_normals(rigged, normals, triangles)))
    alone = np.stack([vertex_normals(neutral + d, triangles) - normals for d in rigged.targets])
    assert len(added) == len(rigged.names)
    np.testing.assert_allclose(added[:52], alone[:52], atol=1e-12)
    true = np.stack([vertex_normals(s, triangles) for s in rigged.shapes(rigged.weights)])
    off = normals + np.tensordot(rigged.weights, added, 1) - true
    naive = normals + np.tensordot(rigged.weights, alone, 1) - true
    assert np.linalg.norm(off, axis=-1).mean() < 0.5 * np.linalg.norm(naive, axis=-1).mean()


def test_stabilized_head_stands_still(out: Path, head: HeadModel):
    scene = load_scene(out, head, ExportOptions(stabilize=True, unit="cm", up="z"))
    (_, meshes), *_ = scene.meshes(scene.posed_frames)
    fit = scene.recorded
    frames = scene.posed_frames
    local = head.vertices(fit.identity, fit.expression[frames], fit.joints[frames])
    expected = 100 * np.stack([local[..., 0], -local[..., 2], local[..., 1]], axis=-1)
    np.testing.assert_allclose(meshes, expected, atol=1e-4)
    assert not scene.cameras
    assert np.abs(fit.rotation[frames]).max() > 1, "the fit as read keeps its motion"


@pytest.mark.parametrize("changes", [{"unit": "inch"}, {"subdivide": -1}, {"subdivide": 9}])
def test_options_out_of_range(out: Path, head: HeadModel, changes: dict):
    from densefit.errors import UsageError

    with pytest.raises(UsageError, match=f"--{next(iter(changes))}"):
        load_scene(out, head, ExportOptions(**changes))


def test_refined_mesh_moves_as_the_coarse_one(scene: ExportScene, tmp_path: Path):
    fine = replace(scene, options=ExportOptions(subdivide=1))
    surface = fine.surface
    # Each triangle of the toy egg's quads becomes four; its UV seam stays a seam.
    assert len(surface.triangles) == 4 * len(scene.head.triangles)
    assert len(surface.uv) > surface.n_vertices > 3.5 * len(scene.head.template)
    player = GltfPlayer(write_glb(fine, tmp_path)[0])
    (_, meshes), *_ = fine.meshes(fine.posed_frames)
    coarse = frame_vertices(scene.fit, scene.head)
    for mesh, frame in zip(meshes, fine.posed_frames, strict=True):
        moment = fine.fit.time[frame] - fine.fit.time[0]
        shown = player.vertices(moment)[: surface.n_vertices]
        assert np.abs(shown - mesh @ fine.axes("y").T).max() < 5e-5
        # Catmull-Clark stays near the mesh that it smooths.
        assert np.abs(mesh.mean(axis=0) - coarse[frame].mean(axis=0)).max() < 0.004
