"""kill -9 at random moments, then the same command: as if nothing had happened."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from killing import check_no_broken_file, fit_stage, kill_after, predict_stage, run, same_arrays
from known_take import make_scene
from square import square_video

from densefit.landmarks.files import write_landmarks

LENGTHS = {"left": 60, "middle": 43, "right": 19}


@pytest.fixture
def squares(tmp_path: Path) -> Path:
    """A take of three cameras of different lengths; one loses the face for a while."""
    hidden = {"middle": range(13, 27)}
    cameras = takes = ""
    for name, frames in LENGTHS.items():
        square_video(tmp_path / f"{name}.mp4", frames, hidden.get(name, range(0)))
        cameras += f"  {name}: {{width: 96, height: 64}}\n"
        takes += f"  {name}: {name}.mp4\n"
    (tmp_path / "rig.yaml").write_text(f"version: 1\ncameras:\n{cameras}")
    (tmp_path / "take.yaml").write_text(f"rig: rig.yaml\ncameras:\n{takes}")
    return tmp_path / "take.yaml"


def predict_killed(take: Path, folder: Path, kills: int, runs: int) -> int:
    """Compare `runs` killed runs with an undisturbed one; returns how many kills hit."""
    rng = np.random.default_rng(kills)
    whole = folder / "whole"
    run(predict_stage, take, whole)
    seconds = run(predict_stage, take, folder / "timed")
    hits = 0
    for number in range(runs):
        out = folder / f"killed{number}"
        for _ in range(kills // runs):
            hits += kill_after(rng.uniform(0, seconds), predict_stage, take, out)
            check_no_broken_file(out)
        run(predict_stage, take, out)
        for name, frames in LENGTHS.items():
            same_arrays(whole / "landmarks" / f"{name}.npz", out / "landmarks" / f"{name}.npz")
            assert len(np.load(out / "landmarks" / f"{name}.npz")["time"]) == frames
        assert not list(out.rglob(".*.part*")), "temporary files of killed runs must go"
    return hits


def fit_killed(folder: Path, kills: int, runs: int) -> int:
    rng = np.random.default_rng(kills)
    scene = make_scene(folder)
    landmarks = folder / "known"
    landmarks.mkdir()
    for name, track in scene.tracks.items():
        write_landmarks(landmarks / f"{name}.npz", track)
    whole = folder / "whole"
    seconds = run(fit_stage, scene.take, landmarks, whole)
    hits = 0
    for number in range(runs):
        out = folder / f"killed{number}"
        for _ in range(kills // runs):
            hits += kill_after(rng.uniform(0, seconds), fit_stage, scene.take, landmarks, out)
            check_no_broken_file(out)
        run(fit_stage, scene.take, landmarks, out)
        same_arrays(whole / "fit.npz", out / "fit.npz")
        names = {str(p.relative_to(whole)) for p in whole.rglob("*") if p.is_file()}
        assert {str(p.relative_to(out)) for p in out.rglob("*") if p.is_file()} == names
    return hits


def test_predict_killed(squares: Path, tmp_path: Path) -> None:
    predict_killed(squares, tmp_path, kills=4, runs=1)


def test_fit_killed(tmp_path: Path) -> None:
    fit_killed(tmp_path, kills=1, runs=1)


@pytest.mark.stress
def test_predict_killed_often(squares: Path, tmp_path: Path) -> None:
    assert predict_killed(squares, tmp_path, kills=40, runs=10) > 20


@pytest.mark.stress
def test_fit_killed_often(tmp_path: Path) -> None:
    assert fit_killed(tmp_path, kills=15, runs=5) > 5
