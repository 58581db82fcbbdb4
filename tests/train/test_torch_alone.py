"""Training, rendering and mixing where nothing but torch and numpy is installed."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from densefit import tensor_files
from densefit.head import load_head
from densefit.landmarks.network import load_network
from densefit.landmarks.weights import LANDMARK_WEIGHTS
from densefit.synth.light import load_environments
from densefit.synth.pack import main as pack_main
from densefit.synth.pack import shrunk
from densefit.train.backgrounds import read_pictures

BLOCKER = '''
"""Hides all packages but torch, numpy and what these two ask for."""
import importlib.metadata as metadata
import re
import sys


def needed(name, known):
    if name in known:
        return
    try:
        requirements = metadata.requires(name) or []
    except metadata.PackageNotFoundError:
        return
    known.add(name)
    for requirement in requirements:
        if "extra ==" not in requirement:
            needed(normal(re.match("[A-Za-z0-9._-]+", requirement)[0]), known)


def normal(name):
    return re.sub("[-_.]+", "-", name).lower()


allowed = set()
for root in ("torch", "numpy"):
    needed(root, allowed)
homes = metadata.packages_distributions().items()
hidden = {name for name, owners in homes if not allowed & {normal(owner) for owner in owners}}
hidden -= {"densefit", "calibration"}
assert {"cv2", "safetensors", "yaml", "scipy"} <= hidden


class Hide:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in hidden:
            raise ModuleNotFoundError(f"No module named {name!r} (hidden)", name=name)


sys.meta_path.insert(0, Hide())
'''
TRAIN = """
from pathlib import Path
from densefit.head import load_head
from densefit.landmarks.network import NetworkConfig
from densefit.train.augment import AugmentOptions
from densefit.train.landmark_task import LandmarkTask, LandmarkTaskOptions
from densefit.train.loop import Trainer, TrainOptions
from densefit.train.random import Draws
import densefit.train.__main__, densefit.train.mix

options = LandmarkTaskOptions(
    augment=AugmentOptions(size=64),
    network=NetworkConfig(
        widths=(8, 16, 16, 24), blocks=(1, 1, 1, 1), head_width=16, components=24, refined=True
    ),
    backgrounds=8, basis_samples=100, score_samples=16, batch=16,
)
shards, out, packed, start = (Path(argument) for argument in sys.argv[1:5])


def trainer():
    task = LandmarkTask(shards, load_head(), Draws(0), options, packed, "test")
    return Trainer(task, task.draws, out, "landmarks", TrainOptions(batch=16), print)


first = trainer()
for _ in range(2):
    first.train_step(0.0)
first.save()
again = trainer()
again._resume()
assert again.step == 2
again.train_step(0.0)
print(again.task.start_from(out / "landmarks.safetensors"))
from densefit.landmarks.weights import read_weights

assert read_weights(start, "landmarks")[0]
"""
RENDER = """
from densefit.synth.render_shards import main

out, packed, folder = sys.argv[1:4]
small = ["--out", out, "--count", "1", "--size", "48", "--supersample", "1", "--environments"]
assert main([*small, packed]) == 0
sys.exit(main([*small, folder]))
"""


def alone(code: str, *arguments: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", BLOCKER + code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


@pytest.fixture
def panoramas(tmp_path: Path) -> Path:
    """A folder of two .hdr files, and packed.npz beside it."""
    cv2 = pytest.importorskip("cv2")
    folder = tmp_path / "hdri"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        sky = rng.uniform(0.1, 3, (64, 128, 3)).astype(np.float32)
        cv2.imwrite(str(folder / f"{name}.hdr"), sky)
    assert pack_main([str(folder), "-o", str(tmp_path / "packed.npz")]) == 0
    return folder


def test_training_needs_torch_and_numpy_only(
    tmp_path: Path, panoramas: Path, make_shard: Callable[..., None]
) -> None:
    """Two steps, saved, gone on with, and weights that begin another training."""
    shards, out = tmp_path / "shards", tmp_path / "out"
    shards.mkdir(), out.mkdir()
    make_shard(shards / "a.npz", 32, 0, version=load_head().landmarks_version)
    done = alone(TRAIN, shards, out, tmp_path / "packed.npz", LANDMARK_WEIGHTS)
    assert done.returncode == 0, done.stderr
    assert "of" in done.stdout and "landmarks.safetensors" in done.stdout
    # What was written without the package is read with it.
    load_network(out / "landmarks.safetensors", load_head().landmarks_version)
    assert "network.stem.0.weight" in load_file(out / "landmarks.checkpoint.safetensors")


def test_rendering_needs_torch_and_numpy_only(tmp_path: Path, panoramas: Path) -> None:
    done = alone(RENDER, tmp_path / "shards", tmp_path / "packed.npz", panoramas)
    assert (tmp_path / "shards" / "shard_0_0.npz").exists(), done.stderr
    assert done.returncode == 3 and "Traceback" not in done.stderr
    assert "densefit.synth.pack FOLDER" in done.stderr, "folders of panoramas need OpenCV"


def test_packed_pictures_are_those_of_the_folder(tmp_path: Path, panoramas: Path) -> None:
    packed = tmp_path / "packed.npz"
    torch.testing.assert_close(
        load_environments(packed), load_environments(panoramas), rtol=2e-3, atol=1e-3
    )
    for one, same in zip(read_pictures(packed), read_pictures(panoramas), strict=True):
        np.testing.assert_allclose(one, same, rtol=1e-3)


def test_pictures_are_averaged_alike_without_opencv(monkeypatch: pytest.MonkeyPatch) -> None:
    picture = np.random.default_rng(1).random((64, 96, 3)).astype(np.float32)
    ours = shrunk(picture, 16, 24)
    monkeypatch.setitem(sys.modules, "cv2", None)
    np.testing.assert_allclose(shrunk(picture, 16, 24), ours, atol=1e-6)


def test_tensors_are_written_and_read_as_the_package_does(tmp_path: Path) -> None:
    tensors = {
        "half": torch.randn(3, 5).half(),
        "count": torch.tensor(7),
        "empty": torch.zeros(0, 4),
        "wide": torch.randn(2, 3, 4, dtype=torch.float64),
        "flags": torch.tensor([True, False, True]),
        "brain": torch.randn(9).bfloat16(),
    }
    ours, theirs = tmp_path / "ours.safetensors", tmp_path / "theirs.safetensors"
    tensor_files._write(ours, tensors, {"kind": json.dumps("x")})
    save_file(tensors, theirs, {"kind": json.dumps("x")})
    for path in (ours, theirs):
        for read, text in (tensor_files._read(path), tensor_files.read_tensors(path)):
            assert text == {"kind": '"x"'} and read.keys() == tensors.keys()
            for name, tensor in tensors.items():
                assert read[name].dtype == tensor.dtype and torch.equal(read[name], tensor)


@pytest.mark.parametrize("keep", [0, 5, 40, -3])
def test_damaged_tensors_are_told(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "a.safetensors"
    tensor_files._write(path, {"a": torch.ones(100)}, {})
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError):
        tensor_files._read(path)
    path.write_bytes(b"# densefit turns ordinary video into heads" * 9)
    with pytest.raises(ValueError):
        tensor_files._read(path)
