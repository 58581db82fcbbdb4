"""Videos that densefit writes: readable, complete, or not there at all."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from recordings import number_picture, read_number

from densefit.capture import VideoWriter, open_frames, open_source


def test_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "overlay.mp4"
    with VideoWriter(path, 30000 / 1001, 96, 64) as video:
        for i in range(40):
            video.write(number_picture(i))
    source = open_source("cam", path)
    frames = list(open_frames(source))
    assert [read_number(f.image) for f in frames] == list(range(40))
    assert source.fps == pytest.approx(29.97, abs=0.01)
    # The red top comes back red: matrix and range are written as they are read.
    np.testing.assert_allclose(frames[0].image[4, 4], (220, 20, 20), atol=12)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264"
        assert stream.codec_context.pix_fmt == "yuv420p"


def test_odd_sizes_are_padded(tmp_path: Path) -> None:
    path = tmp_path / "odd.mp4"
    with VideoWriter(path, 25, 97, 63) as video:
        video.write(np.full((63, 97, 3), 200, np.uint8))
    image = next(open_frames(open_source("cam", path))).image
    assert image.shape == (64, 98, 3)
    assert image[63, 97].min() > 180


def test_a_failed_video_leaves_nothing_and_keeps_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "overlay.mp4"
    path.write_text("the earlier video")
    with pytest.raises(KeyboardInterrupt), VideoWriter(path, 25, 96, 64) as video:
        video.write(number_picture(0))
        raise KeyboardInterrupt
    assert [p.name for p in tmp_path.iterdir()] == ["overlay.mp4"]
    assert path.read_text() == "the earlier video"


def test_pictures_of_another_size_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected 64x96x3"):
        with VideoWriter(tmp_path / "a.mp4", 25, 96, 64) as video:
            video.write(np.zeros((64, 98, 3), np.uint8))
    assert list(tmp_path.iterdir()) == []


def test_what_the_encoder_refuses_is_raised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It works in a thread of its own; a full disk must not pass unseen."""

    def full(writer: VideoWriter, frame: av.VideoFrame) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(VideoWriter, "_encode", full)
    for pictures in (1, 20):
        with pytest.raises(OSError, match="No space left"):
            with VideoWriter(tmp_path / "a.mp4", 25, 96, 64) as video:
                for i in range(pictures):
                    video.write(number_picture(i))
    assert list(tmp_path.iterdir()) == []


def test_other_encoders_are_used_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("densefit.capture.writer._ENCODERS", ("no_such_encoder", "mpeg4"))
    with VideoWriter(tmp_path / "a.mp4", 25, 96, 64) as video:
        for i in range(5):
            video.write(number_picture(i))
    assert "written with mpeg4" in capsys.readouterr().err
    assert len(list(open_frames(open_source("cam", tmp_path / "a.mp4")))) == 5
