"""The GLB of the shipped head, in the units and at the size that users get."""

from __future__ import annotations

import numpy as np

from densefit.export.glb import write_glb
from densefit.export.orientation import world_to_up
from densefit.export.scene import ExportOptions, ExportScene, frame_vertices
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
