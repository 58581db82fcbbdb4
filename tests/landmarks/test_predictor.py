"""The predict stage on small recordings, with a stand-in for the networks."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from square import SquareTracker, square_video

from densefit.capture import load_take
from densefit.cli import main
from densefit.errors import InputError
from densefit.landmarks import jobs, predictor
from densefit.landmarks.files import read_landmarks
from densefit.landmarks.predictor import PredictOptions, predict


@pytest.fixture
def tracker(monkeypatch: pytest.MonkeyPatch) -> SquareTracker:
    stand_in = SquareTracker()
    monkeypatch.setattr(predictor, "make_tracker", lambda head, options: stand_in)
    return stand_in


def test_a_video_is_followed_and_the_gap_is_invalid(tmp_path: Path, tracker) -> None:  # type: ignore[no-untyped-def]
    video = square_video(tmp_path / "left.mp4", 30, hidden=range(9, 17))
    paths = predict(load_take([video]), tmp_path / "out")
    track = read_landmarks(paths["left"])
    assert len(track) == 30
    np.testing.assert_array_equal(track.valid, [not 9 <= i < 17 for i in range(30)])
    seen = np.flatnonzero(track.valid)
    np.testing.assert_allclose(track.xy[seen, 0, 0], 17.5 + seen % 50, atol=1.0)
    assert np.isnan(track.xy[12]).all()
    np.testing.assert_allclose(np.diff(track.time), 1 / 30, atol=2e-3)
    assert tracker.followed > 10


def test_finished_cameras_are_kept_unless_overwritten(tmp_path: Path, tracker) -> None:  # type: ignore[no-untyped-def]
    video = square_video(tmp_path / "left.mp4", 8)
    out = tmp_path / "out"
    predict(load_take([video]), out)
    looks = tracker.found + tracker.followed
    predict(load_take([video]), out)
    assert tracker.found + tracker.followed == looks
    with pytest.raises(InputError, match="left.npz: made from other frames.*--overwrite"):
        predict(load_take([video]), out, PredictOptions(every=2))
    moved = shutil.copy(video, tmp_path / "moved.mp4")
    square_video(tmp_path / "left.mp4", 9)
    with pytest.raises(InputError, match="left.npz: made from other recordings"):
        predict(load_take([video]), out)
    shutil.copy(moved, video)
    predict(load_take([video]), out)
    assert tracker.found + tracker.followed == looks, "the same contents are the same recording"
    predict(load_take([video]), out, PredictOptions(every=2, overwrite=True))
    assert len(read_landmarks(out / "landmarks" / "left.npz")) == 4
    looks = tracker.found + tracker.followed
    predict(load_take([video]), out, PredictOptions(every=2, overwrite=True))
    assert tracker.found + tracker.followed == looks + 4


def test_an_interrupted_run_goes_on_to_the_same_result(
    tmp_path: Path,
    tracker,  # type: ignore[no-untyped-def]
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from densefit.landmarks import files

    monkeypatch.setattr(files, "PART_FRAMES", 16)
    video = square_video(tmp_path / "left.mp4", 40)
    whole = predict(load_take([video]), tmp_path / "whole")["left"]
    tracker.followed, tracker.stop_after = 0, 20
    with pytest.raises(KeyboardInterrupt):
        predict(load_take([video]), tmp_path / "cut")
    tracker.found = tracker.followed = 0
    tracker.stop_after = None
    resumed = predict(load_take([video]), tmp_path / "cut")["left"]
    assert tracker.found == 0 and tracker.followed < 40
    a, b = read_landmarks(whole), read_landmarks(resumed)
    np.testing.assert_array_equal(a.xy, b.xy)
    np.testing.assert_array_equal(a.time, b.time)


@pytest.mark.parametrize("frames", [24, 28])
def test_a_run_stopped_while_it_joins_its_parts(
    frames: int,
    tmp_path: Path,
    tracker,  # type: ignore[no-untyped-def]
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The last part may be short; once it was counted as a whole one."""
    from densefit.landmarks import files

    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(files, "PART_FRAMES", 16)
    video = square_video(tmp_path / "left.mp4", frames)
    whole = read_landmarks(predict(load_take([video]), tmp_path / "whole")["left"])
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(files, "_join", stopped)
        predict(load_take([video]), tmp_path / "cut")
    resumed = read_landmarks(predict(load_take([video]), tmp_path / "cut")["left"])
    assert len(resumed) == frames
    np.testing.assert_array_equal(whole.xy, resumed.xy)
    np.testing.assert_array_equal(whole.time, resumed.time)


def test_no_face_anywhere_is_bad_input(tmp_path: Path, tracker) -> None:  # type: ignore[no-untyped-def]
    video = square_video(tmp_path / "left.mp4", 6, hidden=range(6))
    with pytest.raises(InputError, match="no face found in any frame"):
        predict(load_take([video]), tmp_path / "out")


def test_one_camera_without_a_face_is_a_warning(
    tmp_path: Path,
    tracker,  # type: ignore[no-untyped-def]
    capsys: pytest.CaptureFixture[str],
) -> None:
    square_video(tmp_path / "left.mp4", 8)
    square_video(tmp_path / "right.mp4", 8, hidden=range(8))
    cameras = "".join(
        f"  {name}: {{width: 96, height: 64, model: opencv, dist: [0, 0, 0, 0, 0]}}\n"
        for name in ("left", "right")
    )
    (tmp_path / "rig.yaml").write_text(f"version: 1\nunits: m\ncameras:\n{cameras}")
    take = load_take([tmp_path / "rig.yaml", tmp_path / "left.mp4", tmp_path / "right.mp4"])
    paths = predict(take, tmp_path / "out", PredictOptions(overlay=True))
    assert read_landmarks(paths["left"]).valid.all()
    assert not read_landmarks(paths["right"]).valid.any()
    assert "no face in any frame of camera 'right'" in capsys.readouterr().err
    overlay = tmp_path / "out" / "overlay" / "left.mp4"
    assert len(load_overlay(overlay)) == 8
    drawn = overlay.stat().st_mtime_ns
    predict(take, tmp_path / "out", PredictOptions(overlay=True))
    assert overlay.stat().st_mtime_ns == drawn
    predict(take, tmp_path / "out")
    assert "earlier landmarks" not in capsys.readouterr().err
    predict(take, tmp_path / "out", PredictOptions(every=2, overwrite=True))
    said = capsys.readouterr().err
    assert "right.mp4: drawn from earlier landmarks" in said and str(overlay) in said
    predict(take, tmp_path / "out", PredictOptions(every=2, overlay=True))
    assert len(load_overlay(overlay)) == 4


def test_paths_of_overlays_are_printed(tmp_path: Path, tracker, capsys) -> None:  # type: ignore[no-untyped-def]
    video, out = str(square_video(tmp_path / "left.mp4", 4)), tmp_path / "out"
    assert main(["predict", video, "-o", str(out), "--overlay"]) == 0
    made = [out / "landmarks" / "left.npz", out / "overlay" / "left.mp4"]
    assert capsys.readouterr().out.split() == [str(path) for path in made]
    assert main(["predict", video, "-o", str(out)]) == 0
    assert capsys.readouterr().out.split() == [str(made[0])]


def test_photos_are_looked_at_one_by_one(tmp_path: Path, tracker) -> None:  # type: ignore[no-untyped-def]
    import cv2

    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(6):
        picture = np.full((64, 96, 3), 20, np.uint8)
        if i != 2:
            picture[10 + i : 30 + i, 40:60] = 255
        cv2.imwrite(str(folder / f"{i}.png"), picture)
    paths = predict(load_take([folder]), tmp_path / "out", PredictOptions(overlay=True))
    track = read_landmarks(paths["photos"])
    np.testing.assert_array_equal(track.valid, [True, True, False, True, True, True])
    assert tracker.followed == 0
    assert len(list((tmp_path / "out" / "overlay" / "photos").glob("*.png"))) == 6


@pytest.mark.parametrize("source", ["left.mp4", "0", "0/0.png"])
def test_no_overlay_replaces_what_it_is_drawn_over(tmp_path: Path, tracker, source: str) -> None:  # type: ignore[no-untyped-def]
    import cv2

    folder = tmp_path / "overlay"
    (folder / "0").mkdir(parents=True)
    square_video(folder / "left.mp4", 2)
    cv2.imwrite(str(folder / "0" / "0.png"), np.full((64, 96, 3), 200, np.uint8))
    before = {path: path.read_bytes() for path in folder.rglob("*.*")}
    with pytest.raises(InputError, match="overlay.*: is read by this run.*-o"):
        predict(load_take([folder / source]), tmp_path, PredictOptions(overlay=True))
    assert {path: path.read_bytes() for path in folder.rglob("*.*")} == before
    assert not (tmp_path / "landmarks").exists(), "before any work"


def test_unwritable_output_folder(tmp_path: Path, tracker) -> None:  # type: ignore[no-untyped-def]
    video = square_video(tmp_path / "left.mp4", 2)
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    with pytest.raises(InputError, match="file"):
        predict(load_take([video]), blocked)
    shutil.rmtree(tmp_path / "nothing", ignore_errors=True)


def load_overlay(path: Path) -> list[np.ndarray]:
    """All pictures of a video."""
    from densefit.capture import open_frames, open_source

    return [frame.image for frame in open_frames(open_source("o", path))]


def test_pictures_at_another_rate_are_other_work(tmp_path: Path) -> None:
    import cv2

    for i in range(2):
        cv2.imwrite(str(tmp_path / f"{i}.png"), np.zeros((48, 64, 3), np.uint8))
    made = [
        jobs.job(next(iter(take.sources.values())), PredictOptions())
        for take in (load_take([tmp_path], sequence=True, fps=fps) for fps in (25.0, 30.0))
    ]
    assert made[0] != made[1]


def test_begun_work_goes_on_in_its_precision(
    tmp_path: Path,
    tracker,  # type: ignore[no-untyped-def]
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Another machine finds another one faster; a recording must not change midway."""
    import torch

    from densefit import precision
    from densefit.landmarks import files

    faster, used = [torch.bfloat16], []
    monkeypatch.setattr(precision, "fastest_dtype", lambda device, dtypes: faster[0])
    monkeypatch.setattr(
        predictor, "make_tracker", lambda head, options: used.append(options.precision) or tracker
    )
    monkeypatch.setattr(files, "PART_FRAMES", 16)
    video, out = square_video(tmp_path / "left.mp4", 40), tmp_path / "out"
    tracker.stop_after = 20
    with pytest.raises(KeyboardInterrupt):
        predict(load_take([video]), out)
    tracker.stop_after, faster[0] = None, torch.float32
    with pytest.raises(InputError, match="left.npz: made from other precision.*--overwrite"):
        predict(load_take([video]), out, PredictOptions(precision="float32"))
    predict(load_take([video]), out)
    assert used == ["bfloat16", "bfloat16"]
    assert jobs.earlier_precisions(out, ["left", "right"]) == {"left": "bfloat16"}
    predict(load_take([video]), out, PredictOptions(precision="bfloat16"))
    predict(load_take([video]), out, PredictOptions(overwrite=True))
    assert used == ["bfloat16", "bfloat16", "float32"]


def test_work_of_versions_without_a_choice_is_float32(
    tmp_path: Path,
    tracker,  # type: ignore[no-untyped-def]
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import torch

    from densefit import precision

    monkeypatch.setattr(precision, "fastest_dtype", lambda device, dtypes: torch.bfloat16)
    video, out = square_video(tmp_path / "left.mp4", 8), tmp_path / "out"
    predict(load_take([video]), out, PredictOptions(precision="float32"))
    record = out / "landmarks/.parts/left.json"
    stated = json.loads(record.read_text())
    del stated["precision"]
    record.write_text(json.dumps(stated))
    looks = tracker.found + tracker.followed
    predict(load_take([video]), out)
    predict(load_take([video]), out, PredictOptions(precision="float32"))
    assert tracker.found + tracker.followed == looks
    with pytest.raises(InputError, match="other precision"):
        predict(load_take([video]), out, PredictOptions(precision="bfloat16"))


def test_a_film_is_searched_once_and_then_followed(tmp_path: Path, tracker) -> None:  # type: ignore[no-untyped-def]
    shown, late = tmp_path / "shown.mp4", tmp_path / "late.mp4"
    predict(load_take([square_video(shown, 16)]), tmp_path / "a")
    assert (tracker.found, tracker.followed) == (1, 15)
    tracker.found = tracker.followed = 0
    track = predict(load_take([square_video(late, 20, hidden=range(3))]), tmp_path / "b")["late"]
    assert (tracker.found, tracker.followed) == (4, 16)
    np.testing.assert_array_equal(read_landmarks(track).valid, np.arange(20) >= 3)


def test_the_networks_threads_end(tmp_path: Path, tracker) -> None:  # type: ignore[no-untyped-def]
    """Beside them a fit in the same process took up to twice as long."""
    predict(load_take([square_video(tmp_path / "a.mp4", 4)]), tmp_path / "a")
    assert tracker.closed
    tracker.closed, tracker.stop_after = False, 0
    with pytest.raises(KeyboardInterrupt):
        predict(load_take([square_video(tmp_path / "b.mp4", 4)]), tmp_path / "b")
    assert tracker.closed


def test_hardly_any_face_is_a_warning(
    tmp_path: Path,
    tracker,  # type: ignore[no-untyped-def]
    capsys: pytest.CaptureFixture[str],
) -> None:
    predict(load_take([square_video(tmp_path / "a.mp4", 30, hidden=range(1, 30))]), tmp_path / "o")
    assert "a.mp4: hardly a frame of camera 'a' has a face" in capsys.readouterr().err


def test_fewer_frames_share_a_guess_where_they_take_longer_or_are_large() -> None:
    assert predictor.block_frames(1) == 16
    assert predictor.block_frames(1, rate=6.0) == 8
    assert predictor.block_frames(1, pixels=3840 * 2160) == 8
    assert [predictor.block_frames(n) for n in (2, 4)] == [8, 4]
