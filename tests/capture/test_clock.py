"""When pictures are shown, where the file does not state it or states it wrongly."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from recordings import MakeVideo, read_number, remux

from densefit.capture import Frame, Take, load_take, master_timeline, open_frames, open_source
from densefit.capture.clock import frame_times
from densefit.capture.timeline import chosen_sync

UNEVEN = [0, 40, 80, 200, 240, 400, 440, 520]
"""ms"""
B_FRAMES = {"bf": "3", "b-pyramid": "normal", "b-adapt": "0"}


def decode(path: Path, **options: int) -> list[Frame]:
    """All frames, checked to come in order and at the times that the packets tell."""
    frames = list(open_frames(open_source("cam", path), **options))
    if not options:
        np.testing.assert_allclose([f.time for f in frames], frame_times(path), atol=1e-9)
        assert [read_number(f.image) for f in frames] == list(range(len(frames)))
    return frames


@pytest.fixture
def live(make_video: MakeVideo, tmp_path: Path) -> Path:
    """Written into a pipe, as browsers do it: no duration, no number of frames."""
    whole = make_video(
        "whole.mkv", n=8, pts=UNEVEN, time_base=Fraction(1, 1000), options={"bf": "0"}
    )
    path = remux(whole, tmp_path / "live.mkv", 0, live="1")
    with av.open(str(path)) as container:
        assert container.duration is None and not container.streams.video[0].duration
    return path


def test_a_live_recording_keeps_its_times(live: Path) -> None:
    take = load_take([live])
    source = take.sources["live"]
    assert source.n_frames_estimate == 8
    assert source.duration == pytest.approx(0.52 + 1 / source.fps)
    assert chosen_sync(take) == "pts"
    times = np.array([f.time for f in open_frames(source, every=2)])
    np.testing.assert_allclose(times, np.array(UNEVEN[::2]) / 1000, atol=1e-3)
    np.testing.assert_allclose(master_timeline(take, {"live": times}).time, times)


def test_nothing_known_of_a_recording_is_not_all_of_it(live: Path) -> None:
    """No stated frames once meant that any frames were all: every second one, numbered 0, 1, 2."""
    source = replace(open_source("live", live), n_frames_estimate=0, duration=0.0)
    take = Take("take", {"live": source}, None, sync="frames")
    times = frame_times(live)[::2]
    line = master_timeline(take, {"live": times})
    np.testing.assert_allclose(line.time, np.arange(0, 8, 2) / source.fps)
    assert chosen_sync(replace(take, sync="auto")) == "pts"


def test_a_raw_stream_is_as_long_as_its_frames(make_video: MakeVideo) -> None:
    path = make_video("raw.h264", n=12, options={"bf": "0"})
    source = open_source("raw", path)
    assert (source.n_frames_estimate, source.duration) == (12, pytest.approx(12 / source.fps))
    assert len(decode(path)) == 12


@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
def test_b_frames_in_avi(codec: str, make_video: MakeVideo) -> None:
    """AVI has decoding times only, which belong to other pictures than FFmpeg gives them to."""
    path = make_video("a.avi", n=16, codec=codec, options=B_FRAMES if codec == "libx264" else {})
    frames = decode(path)
    np.testing.assert_allclose([f.time for f in frames], np.arange(16) / 25, atol=1e-6)
    assert open_source("cam", path).start_time == 0


def test_b_frames_whose_times_came_out_of_avi(make_video: MakeVideo, tmp_path: Path) -> None:
    path = remux(make_video("a.avi", n=16, options=B_FRAMES), tmp_path / "a.mkv", 0)
    steps = np.diff([f.time for f in decode(path)])
    np.testing.assert_allclose(steps, 0.04, atol=1.1e-3)


@pytest.mark.parametrize("options", [{"bf": "0"}, B_FRAMES])
def test_times_that_jump_back_go_on(
    options: dict[str, str], make_video: MakeVideo, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two recordings in one file; their times once shrank to microseconds."""
    path = make_video("joined.ts", n=16, options=options)
    path.write_bytes(path.read_bytes() * 2)
    source = open_source("joined", path)
    frames = list(open_frames(source))
    assert [read_number(f.image) for f in frames] == [*range(16), *range(16)]
    np.testing.assert_allclose(np.diff([f.time for f in frames]), 0.04, atol=1e-6)
    np.testing.assert_allclose(frame_times(path), [f.time for f in frames], atol=1e-6)
    message = capsys.readouterr().err
    assert message.count("warning") == 1
    assert "jump back" in message and f"{frames[15].time:.3f} s" in message


@pytest.mark.parametrize("name", ["late.mkv", "late.flv"])
def test_a_length_is_not_counted_from_zero(
    name: str, make_video: MakeVideo, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Matroska states the time at which the video ends, FLV its length from the first decoding."""
    whole = make_video("whole.mp4", n=16, options=B_FRAMES)
    with av.open(str(whole)) as container:
        base = container.streams.video[0].time_base
    path = remux(whole, tmp_path / name, int(50 / base))
    source = open_source("late", path, strict=True)
    assert source.start_time == pytest.approx(50, abs=0.1)
    assert (source.n_frames_estimate, source.duration) == (16, pytest.approx(0.64, abs=2e-3))
    assert len(list(open_frames(source))) == 16
    assert capsys.readouterr().err == ""
