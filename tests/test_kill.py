"""kill -9 at random moments, then the same command: as if nothing had happened."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from killing import (
    Stage,
    check_no_broken_file,
    differences,
    fit_stage,
    kill_after,
    predict_stage,
    run,
)
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


def kill_often(
    kills: int, seconds: float, folder: Path, stage: Stage, *arguments: Path
) -> list[Path]:
    """Kill the stage until it was running `kills` times; returns the output folders it took.

    Each folder's run is killed and started again until it ends by itself.
    """
    rng = np.random.default_rng(kills)
    hits, folders = 0, []
    while hits < kills:
        out = folder / f"killed{len(folders)}"
        folders.append(out)
        assert len(folders) <= 20 * kills, "the runs end before they can be killed"
        before = hits
        while hits < kills and kill_after(rng.uniform(0, seconds), stage, *arguments, out):
            hits += 1
            check_no_broken_file(out)
        if hits == before:
            seconds *= 0.9  # a machine that is less busy than when the run was timed
        run(stage, *arguments, out)
    return folders


def predict_killed(take: Path, folder: Path, kills: int) -> tuple[Path, list[Path]]:
    """Output folders of an undisturbed run and of killed ones."""
    whole = folder / "whole"
    run(predict_stage, take, folder / "first")  # starts the server of the children, too
    seconds = run(predict_stage, take, whole)
    return whole, kill_often(kills, seconds, folder, predict_stage, take)


def fit_killed(folder: Path, kills: int) -> tuple[Path, list[Path]]:
    """Output folders of an undisturbed run and of killed ones."""
    scene = make_scene(folder)
    landmarks = folder / "known"
    landmarks.mkdir()
    for name, track in scene.tracks.items():
        write_landmarks(landmarks / f"{name}.npz", track)
    whole = folder / "whole"
    seconds = run(fit_stage, scene.take, landmarks, whole)
    return whole, kill_often(kills, seconds, folder, fit_stage, scene.take, landmarks)


def test_predict_killed(squares: Path, tmp_path: Path) -> None:
    whole, killed = predict_killed(squares, tmp_path, kills=3)
    assert [differences(whole, out) for out in killed] == [[]] * len(killed)
    for name, frames in LENGTHS.items():
        assert len(np.load(whole / "landmarks" / f"{name}.npz")["time"]) == frames


def test_fit_killed(tmp_path: Path) -> None:
    whole, killed = fit_killed(tmp_path, kills=1)
    assert [differences(whole, out) for out in killed] == [[]] * len(killed)


@pytest.mark.stress
def test_predict_killed_often(squares: Path, tmp_path: Path) -> None:
    whole, killed = predict_killed(squares, tmp_path, kills=38)
    assert [differences(whole, out) for out in killed] == [[]] * len(killed)


@pytest.mark.stress
def test_fit_killed_often(tmp_path: Path) -> None:
    whole, killed = fit_killed(tmp_path, kills=12)
    assert [differences(whole, out) for out in killed] == [[]] * len(killed)
