"""What the machine does to a run: full disks, folders that may not be written, inputs that go."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from killing import check_no_broken_file
from square import SquareTracker, square_video

from densefit.capture import VideoWriter, load_take
from densefit.cli import main
from densefit.landmarks import files, predictor
from densefit.landmarks.files import read_landmarks


@pytest.fixture
def tracker(monkeypatch: pytest.MonkeyPatch) -> SquareTracker:
    stand_in = SquareTracker()
    monkeypatch.setattr(predictor, "make_tracker", lambda head, options: stand_in)
    monkeypatch.setattr(files, "PART_FRAMES", 16)
    monkeypatch.setattr(predictor, "PART_FRAMES", 16)
    return stand_in


@pytest.fixture
def no_large_files() -> Iterator[None]:
    """Files may not grow beyond 250 kB: writing fails as on a full disk, after some work."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (250_000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def noisy_video(path: Path, frames: int) -> Path:
    """A white square in noise, some 15 kB a frame."""
    rng = np.random.default_rng(0)
    with VideoWriter(path, 30, 192, 128) as writer:
        for _ in range(frames):
            noise = rng.integers(0, 120, (128, 192, 3)).astype(np.uint8)
            noise[40:80, 40:80] = 255
            writer.write(noise)
    return path


def error_of(capsys: pytest.CaptureFixture[str]) -> str:
    err = capsys.readouterr().err
    assert "Traceback" not in err and "fault of densefit" not in err, err
    (line,) = (line for line in err.splitlines() if line.startswith("error: "))
    return line


def test_the_disk_fills_up_while_landmarks_are_joined(
    tmp_path: Path,
    tracker: SquareTracker,
    no_large_files: None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Parts fit, the whole file does not; with room again the same command keeps the parts."""
    video = square_video(tmp_path / "left.mp4", 40)
    command = ["predict", str(video), "-o", str(tmp_path / "out")]
    assert main(command) == 3
    line = error_of(capsys)
    assert str(tmp_path / "out" / "landmarks" / "left.npz") in line and "free space" in line
    check_no_broken_file(tmp_path / "out")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    looks = tracker.found + tracker.followed
    assert main(command) == 0
    assert tracker.found + tracker.followed - looks <= 8  # frames of the part that was not full
    assert len(read_landmarks(tmp_path / "out" / "landmarks" / "left.npz")) == 40


def test_the_disk_fills_up_in_an_overlay(
    tmp_path: Path,
    tracker: SquareTracker,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """FFmpeg's own writing fails too."""
    video = noisy_video(tmp_path / "left.mp4", 6)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    command = ["predict", str(video), "-o", str(tmp_path / "out")]
    assert main(command) == 0
    capsys.readouterr()
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        assert main([*command, "--overlay"]) == 3
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "left.mp4" in error_of(capsys)
    assert not list((tmp_path / "out" / "overlay").iterdir())


def test_read_only_output(
    tmp_path: Path, tracker: SquareTracker, capsys: pytest.CaptureFixture[str]
) -> None:
    video = square_video(tmp_path / "left.mp4", 4)
    assert main(["predict", str(video), "-o", "/proc/sys/out"]) == 3
    assert "/proc/sys/out" in error_of(capsys)


def test_an_input_vanishes_after_it_was_opened(
    tmp_path: Path, tracker: SquareTracker, capsys: pytest.CaptureFixture[str]
) -> None:
    """Then it comes back, and the same command ends as if nothing had happened."""
    video = square_video(tmp_path / "left.mp4", 20)
    take = load_take([video])
    hidden = video.rename(tmp_path / "hidden")
    with pytest.raises(Exception) as caught:
        predictor.predict(take, tmp_path / "out")
    message = str(caught.value)
    assert getattr(caught.value, "exit_code", None) == 3 and str(video) in message
    shutil.move(hidden, video)
    assert main(["predict", str(video), "-o", str(tmp_path / "out"), "-q"]) == 0


def test_a_recording_that_is_cut_off_while_it_is_read(
    tmp_path: Path,
    tracker: SquareTracker,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A drive that is pulled out must not pass for a short recording."""
    # Long enough that what is read ahead while the first pictures are looked at is not all of it.
    video = noisy_video(tmp_path / "left.mp4", 90)
    follow = SquareTracker.follow

    def pull_out(self: SquareTracker, pictures: Any, last: Any) -> Any:
        if video.exists():
            with video.open("r+b") as file:
                # Gone before it is short: the reader, a thread of its own, may come between.
                video.unlink()
                file.truncate(os.fstat(file.fileno()).st_size // 3)
        return follow(self, pictures, last)

    monkeypatch.setattr(SquareTracker, "follow", pull_out)
    assert main(["predict", str(video), "-o", str(tmp_path / "out")]) == 3
    assert "vanished" in error_of(capsys)
    assert not (tmp_path / "out" / "landmarks" / "left.npz").exists()


@pytest.mark.stress
def test_a_really_full_disk(
    tmp_path: Path, tracker: SquareTracker, capsys: pytest.CaptureFixture[str]
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(disk)], check=False
    )
    if mounted.returncode:
        pytest.skip("mounting needs root")
    try:
        video = square_video(tmp_path / "left.mp4", 60)
        assert main(["predict", str(video), "-o", str(disk / "out")]) == 3
        line = error_of(capsys)
        assert str(disk / "out") in line and "free space" in line
        check_no_broken_file(disk)
    finally:
        subprocess.run(["umount", str(disk)], check=True)
