"""The shipped network, head and sample take together: from video to an animated mesh."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest

from densefit.cli import main
from densefit.demo import sample_take
from densefit.export.scene import frame_vertices
from densefit.fit_file import read_fit
from densefit.head.model import load_head

FRAMES = 6


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trio")
    command = ["fit-rig", str(sample_take() / "take.yaml"), "-o", str(folder), "--threads", "1"]
    assert main([*command, "--end", str(FRAMES)]) == 0
    return folder


def test_head_lies_where_it_was_rendered(out):
    head = load_head()
    fit = read_fit(out, head)
    assert fit.n_frames == FRAMES and fit.valid.all()
    assert np.nanmedian(fit.residual_px) < 3
    with np.load(sample_take() / "truth.npz") as data:
        names = ("identity", "expression", "rotation", "translation", "joints")
        truth = SimpleNamespace(**{name: data[name].astype(float) for name in names})
    rendered = frame_vertices(truth, head, np.arange(FRAMES))
    skin = np.unique(head.triangles[head.part_triangles("skin")])
    error = np.linalg.norm(frame_vertices(fit, head) - rendered, axis=-1)[:, skin]
    assert np.median(error) < 4e-3


def test_everything_that_was_promised_is_there(out, capsys):
    for name in ("left", "center", "right"):
        assert (out / "landmarks" / f"{name}.npz").is_file()
        assert (out / "overlay" / f"{name}_fit.mp4").is_file()
    assert (out / "meshes" / "neutral.ply").is_file()
    assert json.loads((out / "meta.json").read_text())["scale"] == "calibrated"
    assert main(["export", str(out), "--format", "glb", "--format", "ply"]) == 0
    printed = capsys.readouterr().out.split()
    assert printed == [str(out / "export" / "glb" / "head.glb"), str(out / "export" / "ply")]
    assert len(list((out / "export" / "ply").iterdir())) == FRAMES + 1
