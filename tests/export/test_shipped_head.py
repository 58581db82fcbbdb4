"""The GLB of the shipped head, in the units and at the size that users get."""

from __future__ import annotations

import numpy as np
import pytest

from densefit.export.glb import write_glb
from densefit.export.orientation import world_to_up
from densefit.export.scene import ExportOptions, ExportScene, frame_vertices
from densefit.export.surface import surface_of
from densefit.fit_file import read_fit
from densefit.head.model import load_head
from tests.export.gltf_player import GltfPlayer
from tests.toy_fit import write_toy_fit


def test_glb_equals_the_fit_within_a_twentieth_of_a_millimetre(tmp_path):
    head = load_head()
    write_toy_fit(tmp_path, head)
    fit = read_fit(tmp_path, head)
    scene = ExportScene(fit, head, None, np.arange(fit.n_frames), ExportOptions())
    player = GltfPlayer(write_glb(scene, tmp_path)[0])
    expected = frame_vertices(fit, head) @ world_to_up("y", None).T
    for frame in scene.posed_frames[::2]:
        shown = player.vertices(fit.time[frame] - fit.time[0])[: len(head.template)]
        assert np.abs(shown - expected[frame]).max() < 5e-5


def test_the_neck_ends_at_a_clean_edge():
    """The model's own rim is in shreds; what is written ends in one closed edge loop."""
    head = load_head()
    for surface in (surface_of(head), surface_of(head, 1)):
        neck = np.isin(surface.triangle_part, [head.part_names.index(n) for n in ("neck", "skin")])
        triangles = surface.triangles[neck]
        edges = np.sort(triangles[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), axis=1)
        edges, count = np.unique(edges, axis=0, return_counts=True)
        vertices = surface.refine(head.template.astype(np.float64))
        rim = edges[(count == 1) & (vertices[edges, 1] < -0.13).all(axis=1)]
        # Each vertex of the loop has two edges, and the loop follows a plane within 12 mm.
        assert np.all(np.unique(rim, return_counts=True)[1] == 2)
        points = vertices[np.unique(rim)]
        centred = points - points.mean(axis=0)
        spread = np.linalg.svd(centred, full_matrices=False)
        assert np.abs(centred @ spread[2][2]).max() < 0.012
        assert np.ptp(points[:, 0]) == pytest.approx(0.15, abs=0.01)
