"""Shards, pictures and takes on disk."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from calibration.rig import read_rig
from densefit.cli.app import run
from densefit.errors import InputError, UsageError
from densefit.files import read_npz
from densefit.head import model as head_module
from densefit.head.model import HeadModel
from densefit.head.rotation import rotation_matrix
from densefit.synth import render_shards as shards
from densefit.synth.light import load_environments
from densefit.synth.performance import perform
from densefit.synth.pictures import PictureOptions, write_pictures
from densefit.synth.take import TakeOptions, look_at, render_take


def test_shards_are_kept_and_reproducible(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, head: HeadModel
) -> None:
    monkeypatch.setattr(shards, "SHARD_SIZE", 3)
    options = shards.ShardOptions(count=4, seed=6, size=48, batch=2)
    paths = shards.render_shards(tmp_path / "a", options)
    assert [p.name for p in paths] == ["shard_6_0.npz", "shard_6_1.npz"]
    arrays = read_npz(paths[0])
    assert arrays["rgba"].shape == (3, 4, 48, 48) and arrays["rgba"].dtype == np.uint8
    assert arrays["landmarks"].shape == (3, 703, 2) and arrays["landmarks"].dtype == np.float32
    assert arrays["visible"].shape == (3, 703) and arrays["visible"].dtype == bool
    assert arrays["depth"].shape == (3, 703)
    assert str(arrays["landmarks_version"]) == head.landmarks_version
    assert not np.array_equal(arrays["landmarks"], read_npz(paths[1])["landmarks"])
    kept = paths[1].stat().st_mtime_ns
    assert len(read_npz(paths[1])["rgba"]) == 1, "the last shard has what is left"
    paths[0].unlink()
    shards.render_shards(tmp_path / "a", options)
    assert paths[1].stat().st_mtime_ns == kept, "finished shards are not rendered again"
    assert np.array_equal(read_npz(paths[0])["rgba"], arrays["rgba"])


def test_people_depend_on_seed_and_number_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once they were others when more were rendered at once."""
    monkeypatch.setattr(shards, "SHARD_SIZE", 5)
    options = shards.ShardOptions(count=5, seed=6, size=48, batch=5)
    (path,) = shards.render_shards(tmp_path / "a", options)
    (other,) = shards.render_shards(tmp_path / "b", replace(options, batch=2, count=3))
    arrays, fewer = read_npz(path), read_npz(other)
    for name in ("landmarks", "K", "rotation", "depth"):
        np.testing.assert_allclose(fewer[name], arrays[name][:3], rtol=1e-4, atol=1e-4)
    # A shard of fewer pictures than are wanted is rendered again.
    shards.render_shards(tmp_path / "b", options)
    assert len(read_npz(other)["rgba"]) == 5


def test_shards_of_other_options_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once they were kept, and training saw what nobody had asked for."""
    monkeypatch.setattr(shards, "SHARD_SIZE", 2)
    options = shards.ShardOptions(count=2, seed=6, size=48)
    (path,) = shards.render_shards(tmp_path, options)
    shards.render_shards(tmp_path, replace(options, batch=1))  # the same people
    with pytest.raises(InputError, match="size 48, not 64"):
        shards.render_shards(tmp_path, replace(options, size=64))
    scene = replace(options.scene, favour="tongue", margin=(1.2, 1.45))
    with pytest.raises(InputError, match=r"margin \[1.8, 2.0\], not \[1.2, 1.45\]; favour None"):
        shards.render_shards(tmp_path, replace(options, scene=scene))
    # Shards of earlier versions do not say it and stay.
    arrays = read_npz(path)
    del arrays["options"]
    np.savez(path, **arrays)
    shards.render_shards(tmp_path, replace(options, scene=scene))
    assert "options" not in read_npz(path)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(InputError, match="damaged"):
        shards.render_shards(tmp_path, options)


def test_the_largest_seed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Times a million it is more than a generator takes."""
    monkeypatch.setattr(shards, "SHARD_SIZE", 1)
    command = ["synth", "-n", "1", "--format", "shards", "--size", "64", "--batch", "1"]
    assert run([*command, "-o", str(tmp_path), "--seed", str(2**63 - 1)]) == 0
    assert (tmp_path / f"shard_{2**63 - 1}_0.npz").exists()


def test_synth_writes_pictures_and_labels(tmp_path: Path, head: HeadModel) -> None:
    cv2 = pytest.importorskip("cv2")
    code = run(["synth", "-n", "3", "-o", str(tmp_path), "--size", "64", "--parts", "--seed", "3"])
    assert code == 0
    labels = read_npz(tmp_path / "labels.npz")
    assert labels["landmarks"].shape == (3, 703, 2) and labels["visible"].any()
    assert labels["expression"].shape == (3, 52) and labels["joints"].shape == (3, 4, 3)
    assert labels["identity"].shape == (3, head.identity_count)
    for k in range(3):
        picture = cv2.imread(str(tmp_path / f"{k:06d}.png"))
        assert picture.shape == (64, 64, 3) and picture.std() > 5
        assert (tmp_path / f"{k:06d}_parts.png").is_file()
    first = (tmp_path / "000000.png").read_bytes()
    write_pictures(tmp_path / "again", PictureOptions(count=3, size=64, seed=3))
    assert (tmp_path / "again" / "000000.png").read_bytes() == first


def test_synth_of_another_head_model(tmp_path: Path, head: HeadModel) -> None:
    """Its geometry is what is rendered: here everybody has the same, larger head."""
    values = read_npz(Path(head_module.__file__).with_name("head.npz"))
    values["identity_scale"] = 0 * values["identity_scale"]
    values["template"] = 1.5 * values["template"]
    values["joint_centres"] = 1.5 * values["joint_centres"]
    np.savez(tmp_path / "large.npz", **values)
    command = ["synth", "-n", "2", "--size", "64", "--format", "png", "--seed", "3"]
    span = []
    for name, more in (("own", []), ("large", ["--model", str(tmp_path / "large.npz")])):
        assert run([*command, "-o", str(tmp_path / name), *more]) == 0
        depth = read_npz(tmp_path / name / "labels.npz")["depth"]
        span.append(np.ptp(depth, axis=1))
    assert (span[1] > 1.25 * span[0]).all()
    with pytest.raises(InputError, match="check --model"):
        run([*command, "-o", str(tmp_path / "x"), "--model", str(tmp_path / "none.npz")])


def test_synth_of_a_damaged_head_model(tmp_path: Path) -> None:
    """Once NaN was rendered, and not told."""
    values = read_npz(Path(head_module.__file__).with_name("head.npz"))
    values["joint_basis"][0, 2] = np.nan
    np.savez(tmp_path / "nan.npz", **values)
    command = ["synth", "-n", "1", "-o", str(tmp_path), "--model", str(tmp_path / "nan.npz")]
    for kind in ("png", "shards"):
        with pytest.raises(InputError, match="joint_basis holds NaN"):
            run([*command, "--format", kind])


def test_synth_refuses_what_it_cannot_do(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--size 60"):
        write_pictures(tmp_path, PictureOptions(size=60))
    with pytest.raises(InputError, match="no .hdr"):
        load_environments(tmp_path)


def test_performance_talks_blinks_and_turns() -> None:
    acted = perform(2.0, 30.0, seed=1)
    assert acted.expression.shape == (60, 52) and acted.time[-1] == pytest.approx(59 / 30)
    assert acted.expression.min() >= 0 and acted.expression.max() <= 1
    assert acted.expression[:, 17].std() > 0.03, "the jaw moves"
    assert acted.expression[:, 0].max() > 0.9, "a blink"
    assert np.ptp(acted.rotation[:, 1]) > 0.4
    assert np.abs(np.diff(acted.rotation, axis=0)).max() < 0.1


def test_take_agrees_with_its_truth(tmp_path: Path, head: HeadModel) -> None:
    av = pytest.importorskip("av")
    cameras = (
        look_at("a", (0.3, 0.0, 0.8), (64, 48), 80.0),
        look_at("b", (-0.2, 0.1, 0.9), (48, 64), 90.0),
    )
    options = TakeOptions(
        "small", cameras, person=1, seconds=0.1, codecs=("h264", "h264"), qualities=(25, 25)
    )
    render_take(tmp_path, options, head)
    truth = read_npz(tmp_path / "truth.npz")
    rig = read_rig(tmp_path / "rig.yaml")
    vertices = head.vertices(truth["identity"], truth["expression"], truth["joints"])
    points = head.landmarks(vertices.astype(np.float64))
    rotation = rotation_matrix(truth["rotation"])
    world = np.einsum("tij,tkj->tki", rotation, points) + truth["translation"][:, None]
    for name in ("a", "b"):
        flat = np.stack([rig.cameras[name].project(p) for p in world])
        np.testing.assert_allclose(truth[f"landmarks_px_{name}"], flat, atol=0.02)
        assert truth[f"visible_{name}"].mean() > 0.2
        with av.open(str(tmp_path / f"{name}.mp4")) as video:
            frames = [f.to_ndarray(format="rgb24") for f in video.decode(video=0)]
        assert len(frames) == len(truth["time"]) == 3
        assert frames[0].shape[:2] == (rig.cameras[name].height, rig.cameras[name].width)
        assert frames[0].std() > 10
    assert torch.get_num_threads() >= 1
    assert "rig: rig.yaml" in (tmp_path / "take.yaml").read_text()
