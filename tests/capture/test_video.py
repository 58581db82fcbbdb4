"""Decoding: every frame once, in order, at its time, upright; damage told; nonsense refused."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from recordings import HEIGHT, WIDTH, MakeVideo, read_number

from densefit.capture import Frame, check_range, load_take, open_frames, open_source
from densefit.capture.video import frame_times
from densefit.errors import InputError, UsageError


def decode(path: Path, **options: object) -> list[Frame]:
    return list(open_frames(open_source("cam", path), **options))  # type: ignore[arg-type]


def numbers(frames: list[Frame]) -> list[int]:
    return [read_number(frame.image) for frame in frames]


def has_encoder(name: str) -> bool:
    try:
        av.Codec(name, "w")
    except (av.FFmpegError, ValueError):
        return False
    return True


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("a.mp4", "libx264"),
        ("a.mov", "libx264"),
        ("a.mkv", "libx264"),
        ("a.ts", "libx264"),
        ("a.mp4", "libx265"),
        ("a.avi", "mjpeg"),
        ("a.mp4", "mpeg4"),
        ("a.mp4", "libsvtav1"),
        ("a.mkv", "ffv1"),
    ],
)
def test_every_frame_once_in_order(name: str, codec: str, make_video: MakeVideo) -> None:
    if not has_encoder(codec):
        pytest.skip(f"this PyAV cannot encode {codec}")
    path = make_video(name, n=30, codec=codec)
    source = open_source("cam", path)
    frames = list(open_frames(source))
    assert numbers(frames) == list(range(30))
    assert [f.index for f in frames] == list(range(30))
    times = np.array([f.time for f in frames])
    np.testing.assert_allclose(np.diff(times), 0.04, atol=1e-3)
    assert times[0] == source.start_time
    assert (source.kind, source.width, source.height) == ("video", WIDTH, HEIGHT)
    assert source.fps == pytest.approx(25, rel=0.01)
    assert frames[0].image.dtype == np.uint8
    assert frames[0].image.flags.c_contiguous


def test_what_the_container_states(make_video: MakeVideo) -> None:
    source = open_source("cam", make_video(n=30))
    assert source.n_frames_estimate == 30
    assert source.duration == pytest.approx(1.2)


def test_variable_frame_rate_keeps_its_times(make_video: MakeVideo) -> None:
    pts = [0, 33, 66, 133, 200, 205, 1000]
    path = make_video("vfr.mkv", n=7, fps=30, pts=pts, time_base=Fraction(1, 1000))
    np.testing.assert_allclose([f.time for f in decode(path)], np.array(pts) / 1000, atol=1e-3)


def test_undecoded_times_are_those_of_the_frames(make_video: MakeVideo) -> None:
    path = make_video(n=30)
    np.testing.assert_allclose(frame_times(path), [f.time for f in decode(path)], atol=1e-9)


@pytest.mark.parametrize("rotation", [90, -90, 180])
def test_rotation_metadata_is_applied(rotation: int, make_video: MakeVideo) -> None:
    path = make_video("phone.mp4", rotation=rotation)
    source = open_source("cam", path)
    image = next(open_frames(source)).image
    assert image.shape == (source.height, source.width, 3)
    turned = abs(rotation) == 90
    assert (source.width, source.height) == ((HEIGHT, WIDTH) if turned else (WIDTH, HEIGHT))
    ok, reference = cv2.VideoCapture(str(path)).read()  # turns pictures upright by itself
    assert ok
    np.testing.assert_allclose(image, reference[..., ::-1], atol=8)


def test_pixels_that_are_not_square_are_stretched(make_video: MakeVideo) -> None:
    source = open_source("cam", make_video(aspect=Fraction(4, 3)))
    assert (source.width, source.height) == (128, HEIGHT)
    frames = list(open_frames(source))
    assert frames[0].image.shape == (HEIGHT, 128, 3)
    assert numbers(frames) == list(range(20))


def test_raw_stream_without_times_counts_frames(make_video: MakeVideo) -> None:
    path = make_video("raw.h264", n=20, options={"bf": "0"})
    frames = decode(path)
    assert numbers(frames) == list(range(20))
    steps = np.diff([f.time for f in frames])
    assert (steps > 0).all()
    np.testing.assert_allclose(steps, 0.04, atol=1e-3)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"start": 5}, list(range(5, 20))),
        ({"start": "5", "end": "8"}, [5, 6, 7]),
        ({"end": 3}, [0, 1, 2]),
        ({"every": 6}, [0, 6, 12, 18]),
        ({"start": 3, "end": 12, "every": 4}, [3, 7, 11]),
        ({"start": "0.2s"}, list(range(5, 20))),
        ({"start": "0.2s", "end": "0.32s"}, [5, 6, 7]),
        ({"start": 19, "end": 500}, [19]),
        ({"start": 20}, []),
    ],
)
def test_ranges(options: dict[str, object], expected: list[int], make_video: MakeVideo) -> None:
    frames = decode(make_video(), **options)
    assert numbers(frames) == expected
    assert [f.index for f in frames] == expected


@pytest.mark.parametrize(
    "options",
    [{"start": "x"}, {"start": "-1"}, {"end": "1.5"}, {"every": 0}, {"start": 5, "end": 5}],
)
def test_wrong_ranges_are_usage_errors(options: dict[str, object], make_video: MakeVideo) -> None:
    with pytest.raises(UsageError):
        decode(make_video(), **options)


@pytest.mark.parametrize(("name", "movflags"), [("cut.mp4", "faststart"), ("cut.mkv", None)])
def test_the_beginning_of_a_truncated_video_is_used(
    name: str,
    movflags: str | None,
    make_video: MakeVideo,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = make_video(name, n=100, movflags=movflags, options={"g": "10"})
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 6 // 10])
    frames = decode(path)
    assert 20 < len(frames) < 90
    assert numbers(frames) == list(range(len(frames)))
    message = capsys.readouterr().err
    assert message.count("warning") == 1
    assert str(path) in message
    assert f"{frames[-1].time:.2f} s" in message
    with pytest.raises(InputError, match="--strict"):
        list(open_frames(open_source("cam", path, strict=True)))


def test_strict_refuses_a_cut_mp4_before_any_work(make_video: MakeVideo) -> None:
    path = make_video(n=100, movflags="faststart")
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(InputError, match="ends early"):
        load_take([path], strict=True)


def test_a_hole_in_the_middle_ends_the_good_part(
    make_video: MakeVideo, capsys: pytest.CaptureFixture[str]
) -> None:
    path = make_video(n=100, codec="mpeg4", movflags="faststart", options={"g": "5"})
    with av.open(str(path)) as container:
        entry = container.streams.video[0].index_entries[50]
    data = bytearray(path.read_bytes())
    data[entry.pos : entry.pos + entry.size] = b"\x00" * entry.size
    path.write_bytes(data)
    frames = decode(path)
    assert 40 <= len(frames) <= 51
    assert numbers(frames) == list(range(len(frames)))
    assert "warning" in capsys.readouterr().err


def test_a_good_video_gives_no_warning(
    make_video: MakeVideo, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a.mp4", "a.mkv", "a.ts"):
        decode(make_video(name, n=50))
    assert capsys.readouterr().err == ""


def refused(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        load_take([path])
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    return message


def test_inputs_that_are_no_video(tmp_path: Path, make_video: MakeVideo) -> None:
    assert "no such file" in refused(tmp_path / "none.mp4")
    empty = tmp_path / "empty.mp4"
    empty.touch()
    assert "empty file" in refused(empty)
    text = tmp_path / "text.mp4"
    text.write_text("This is not a video.\n" * 200)
    assert "not a video" in refused(text)
    noise = tmp_path / "noise.mp4"
    noise.write_bytes(np.random.default_rng(0).bytes(50_000))
    assert "not a video" in refused(noise)
    headless = tmp_path / "headless.mp4"
    headless.write_bytes(make_video(n=50).read_bytes()[:1500])
    assert "not a video" in refused(headless)


def test_a_codec_that_nobody_knows(make_video: MakeVideo) -> None:
    path = make_video()
    path.write_bytes(path.read_bytes().replace(b"avc1", b"zzzz").replace(b"avcC", b"zzzC"))
    assert "cannot decode" in refused(path)


def test_audio_is_not_video(tmp_path: Path) -> None:
    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        stream.layout = "mono"
        samples = np.zeros((1, 44100), np.float32)
        frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
        frame.sample_rate = 44100
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    assert "sound but no video" in refused(path)


def test_a_video_without_frames(tmp_path: Path, make_video: MakeVideo) -> None:
    source = make_video("full.mkv", n=5)
    path = tmp_path / "none.mkv"
    with av.open(str(source)) as full, av.open(str(path), "w") as container:
        container.add_stream_from_template(full.streams.video[0])
        container.start_encoding()
    assert "decoded" in refused(path) or "not a video" in refused(path)


def test_names_with_a_colon_are_files(
    make_video: MakeVideo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    make_video("plain.mp4").rename(tmp_path / "12:30.mp4")
    assert open_source("a", Path("12:30.mp4")).width > 0


def test_a_range_is_checked_undecoded(make_video: MakeVideo) -> None:
    source = open_source("cam", make_video("a.mp4", n=20, fps=25))
    # Containers may state fewer frames than they hold.
    for known in (source, replace(source, n_frames_estimate=5)):
        for start, end in ((None, None), ("19", None), ("0.76s", None), ("10", "0.5s"), (None, 1)):
            check_range(known, start, end)
        for start, end in (("20", None), ("0.8s", None), ("10", "0.4s"), (None, 0)):
            with pytest.raises(InputError, match="a.mp4: no frame in the chosen range, of 20;"):
                check_range(known, start, end)
