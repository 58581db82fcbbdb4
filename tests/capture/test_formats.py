"""What cameras really write: codecs, depths, HDR, interlacing, edit lists, other streams beside."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.stream import Disposition
from recordings import HEIGHT, WIDTH, MakeVideo, number_picture, read_number, remux

from densefit.capture import Frame, open_frames, open_source
from densefit.capture.colour import tone_mapped, upright_rgb
from densefit.capture.describe import describe
from densefit.capture.streams import video_stream
from densefit.capture.video import frame_times
from densefit.errors import InputError

FAST_VP9 = {"deadline": "realtime", "cpu-used": "8"}


def has_encoder(name: str) -> bool:
    try:
        av.Codec(name, "w")
    except (av.FFmpegError, ValueError):
        return False
    return True


def decode(path: Path) -> list[Frame]:
    return list(open_frames(open_source("cam", path)))


def numbers(frames: list[Frame]) -> list[int]:
    """What the pictures show; they must be red where drawn so, and 1/25 s apart."""
    np.testing.assert_allclose(np.diff([f.time for f in frames]), 0.04, atol=1.1e-3)
    red = frames[0].image[3, WIDTH // 2].astype(int)
    assert np.abs(red - (220, 20, 20)).max() < 45
    return [read_number(frame.image) for frame in frames]


@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt", "options"),
    [
        ("a.webm", "libvpx-vp9", "yuv420p", FAST_VP9),
        ("alpha.webm", "libvpx-vp9", "yuva420p", {**FAST_VP9, "auto-alt-ref": "0"}),
        ("a.mov", "prores_ks", "yuv422p10le", {}),
        ("alpha.mov", "prores_ks", "yuva444p10le", {}),
        ("alpha.mkv", "ffv1", "yuva420p", {}),
        ("ten.mp4", "libx264", "yuv420p10le", {}),
        ("ten.mp4", "libx265", "yuv420p10le", {}),
        ("ten.mp4", "libsvtav1", "yuv420p10le", {"preset": "12"}),
        ("full.avi", "mjpeg", "yuvj422p", {}),
        ("b_frames.mp4", "libx264", "yuv420p", {"bf": "4", "b-adapt": "0"}),
    ],
)
def test_codecs_and_pixel_formats(
    name: str, codec: str, pix_fmt: str, options: dict[str, str], make_video: MakeVideo
) -> None:
    if not has_encoder(codec):
        pytest.skip(f"this PyAV cannot encode {codec}")
    path = make_video(name, n=12, codec=codec, pix_fmt=pix_fmt, options=options)
    assert numbers(decode(path)) == list(range(12))


def test_odd_sizes(make_video: MakeVideo) -> None:
    path = make_video("odd.mkv", n=3, pix_fmt="yuv444p", size=(WIDTH + 1, HEIGHT + 1))
    source = open_source("cam", path)
    assert (source.width, source.height) == (WIDTH + 1, HEIGHT + 1)
    assert next(open_frames(source)).image.shape == (HEIGHT + 1, WIDTH + 1, 3)


def combed(number: int, width: int, height: int) -> np.ndarray:
    """A bright bar that moves between the two fields of a picture."""
    picture = np.full((height, width, 3), 30, np.uint8)
    for field in (0, 1):
        start = 8 + 8 * number + 4 * field
        picture[field::2, start : start + 16] = 220
    return picture


def comb_strength(image: np.ndarray) -> float:
    grey = image.mean(-1)
    return float(np.abs(grey[2:-2:2] - (grey[1:-3:2] + grey[3:-1:2]) / 2).mean())


def test_interlaced_pictures_are_deinterlaced_and_keep_their_times(make_video: MakeVideo) -> None:
    options = {"flags": "+ildct+ilme", "x264-params": "tff=1", "crf": "10"}
    path = make_video("interlaced.mov", n=8, options=options, picture=combed)
    frames = decode(path)
    assert [f.index for f in frames] == list(range(8))
    np.testing.assert_allclose([f.time for f in frames], frame_times(path), atol=1e-9)
    assert comb_strength(combed(3, WIDTH, HEIGHT)) > 10
    assert max(comb_strength(frame.image) for frame in frames) < 5
    # The bar is where one and the same field has it in all pictures.
    middles = [np.flatnonzero(f.image[HEIGHT // 2, :, 1] > 120).mean() for f in frames[1:-1]]
    lead = np.array(middles) - (8 + 8 * np.arange(1, 7) + 7.5)
    assert min(np.abs(lead).max(), np.abs(lead - 4).max()) < 1


def pq(nits: float) -> float:
    """SMPTE ST 2084: light in cd/m^2 to code value in 0..1."""
    m1, m2, c1, c2, c3 = 0.1593017578125, 78.84375, 0.8359375, 18.8515625, 18.6875
    power = (nits / 10000) ** m1
    return float(((c1 + c2 * power) / (1 + c3 * power)) ** m2)


def hlg(light: float) -> float:
    """ARIB STD-B67: scene light in 0..1 to code value in 0..1."""
    if light <= 1 / 12:
        return float((3 * light) ** 0.5)
    return float(0.17883277 * np.log(12 * light - 0.28466892) + 0.55991073)


def srgb(light: float) -> float:
    return 255 * (1.055 * light ** (1 / 2.4) - 0.055)


@pytest.mark.parametrize("transfer", [16, 18])
def test_hdr_shows_what_is_lit_like_a_face_as_ordinary_video_does(transfer: int) -> None:
    """Below the shoulder, light is shown in proportion: 0.9 of the display at reference white."""
    for nits in (10.0, 30.0, 60.0, 120.0):
        # HLG for a display of 1000 cd/m^2: shown light is scene light to the power 1.2.
        code = pq(nits) if transfer == 16 else hlg((nits / 1000) ** (1 / 1.2))
        image = np.full((2, 2, 3), round(code * 65535), np.uint16)
        shown = tone_mapped(image, transfer, 9)
        assert abs(shown.astype(float) - srgb(0.9 * nits / 203)).max() < 2.5
    ramp = np.repeat(np.arange(0, 65536, 64, dtype=np.uint16)[None, :, None], 3, axis=2)
    steps = np.diff(tone_mapped(ramp, transfer, 9).astype(int), axis=1)
    assert (steps >= 0).all() and steps.max() < 12


def test_hdr_video(make_video: MakeVideo) -> None:
    """A ten bit BT.2020 PQ file: grey of 60 cd/m^2 left, BT.709 red of 100 cd/m^2 right."""
    to_bt709 = [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]]
    red = np.linalg.inv(to_bt709)[:, 0]

    def picture(number: int, width: int, height: int) -> np.ndarray:
        image = np.full((height, width, 3), pq(60.0) * 65535)
        image[:, width // 2 :] = [pq(100.0 * max(c, 0)) * 65535 for c in red]
        return image.astype(np.uint16)

    path = make_video(
        "hdr.mp4", n=3, codec="libx265", pix_fmt="yuv420p10le", picture=picture, hdr=(9, 9, 16)
    )
    image = decode(path)[1].image.astype(int)
    assert np.abs(image[32, 16] - srgb(0.9 * 60 / 203)).max() < 6
    assert abs(image[32, 80, 0] - srgb(0.9 * 100 / 203)) < 8
    assert image[32, 80, 1:].max() < 45


def test_an_edit_list_hides_the_beginning(make_video: MakeVideo, tmp_path: Path) -> None:
    """Trimmed without encoding anew, as phones do: the first frames are there, but not shown."""
    whole = make_video("whole.mp4", n=20, options={"bf": "0", "g": "10"})
    with av.open(str(whole)) as container:
        period = int(Fraction(1, 25) / container.streams.video[0].time_base)
    path = remux(
        whole, tmp_path / "trimmed.mp4", -5 * period, avoid_negative_ts="disabled", use_editlist="1"
    )
    source = open_source("cam", path)
    frames = list(open_frames(source))
    assert [read_number(frame.image) for frame in frames] == list(range(5, 20))
    assert source.n_frames_estimate == 15
    np.testing.assert_allclose([f.time for f in frames], np.arange(15) / 25, atol=1e-6)
    np.testing.assert_allclose(frame_times(path), np.arange(15) / 25, atol=1e-6)


def test_an_edit_list_delays_the_beginning(make_video: MakeVideo, tmp_path: Path) -> None:
    whole = make_video("whole.mp4", n=10)
    with av.open(str(whole)) as container:
        base = container.streams.video[0].time_base
    path = remux(whole, tmp_path / "late.mp4", int(Fraction(1, 2) / base))
    source = open_source("cam", path)
    assert source.start_time == pytest.approx(0.5, abs=1e-3)
    assert numbers(list(open_frames(source))) == list(range(10))


@pytest.mark.parametrize(
    ("name", "movflags"), [("live.mp4", "frag_keyframe+empty_moov"), ("raw.ts", None)]
)
def test_missing_duration(
    name: str, movflags: str | None, make_video: MakeVideo, capsys: pytest.CaptureFixture[str]
) -> None:
    assert numbers(decode(make_video(name, n=15, movflags=movflags))) == list(range(15))
    assert capsys.readouterr().err == ""


def test_wrong_duration(make_video: MakeVideo, capsys: pytest.CaptureFixture[str]) -> None:
    """The header of an MP4 states half of the length, then ten times it: the frames tell."""
    path = make_video(n=50)
    good = path.read_bytes()
    for factor in (0.5, 10):
        data = bytearray(good)
        for box, at in ((b"mvhd", 20), (b"mdhd", 20), (b"tkhd", 24)):
            place = data.index(box) + at
            value = int.from_bytes(data[place : place + 4], "big")
            data[place : place + 4] = int(value * factor).to_bytes(4, "big")
        path.write_bytes(data)
        assert numbers(decode(path)) == list(range(50))
        assert capsys.readouterr().err == ""


def test_sound_and_subtitles_beside(tmp_path: Path) -> None:
    """The video is the third stream of the file, after sound and subtitles."""
    path, titles_path = tmp_path / "all.mkv", tmp_path / "titles.srt"
    titles_path.write_text("1\n00:00:00,000 --> 00:00:00,400\nhello\n\n")
    with av.open(str(path), "w") as container, av.open(str(titles_path)) as spoken:
        sound = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        titles = container.add_stream_from_template(spoken.streams.subtitles[0])
        video = container.add_stream("libx264", rate=25)
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for i in range(12):
            audio = av.AudioFrame.from_ndarray(np.zeros((1, 320), np.int16), "s16", "mono")
            audio.sample_rate, audio.pts = 8000, 320 * i
            container.mux(sound.encode(audio))
            picture = av.VideoFrame.from_ndarray(number_picture(i), format="rgb24")
            picture.pts = i
            container.mux(video.encode(picture))
        for packet in spoken.demux():
            if packet.dts is not None:
                packet.stream = titles
                container.mux(packet)
        container.mux(sound.encode(None))
        container.mux(video.encode(None))
    with av.open(str(path)) as container:
        assert [s.type for s in container.streams] == ["audio", "subtitle", "video"]
    assert numbers(decode(path)) == list(range(12))


def two_videos(path: Path, default: int | None, sizes: list[tuple[int, int]]) -> Path:
    """One file with a video for each size; the `default`-th is marked as the one to be shown."""
    with av.open(str(path), "w", options={"default_mode": "passthrough"}) as container:
        streams = []
        for number, (width, height) in enumerate(sizes):
            stream = container.add_stream("libx264", rate=25)
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            chosen = number == default
            stream.disposition = Disposition.default if chosen else Disposition(0)
            streams.append(stream)
        for i in range(4):
            for stream in streams:
                rgb = number_picture(i, stream.width, stream.height)
                picture = av.VideoFrame.from_ndarray(rgb, format="rgb24")
                picture.pts = i
                container.mux(stream.encode(picture))
        for stream in streams:
            container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(("default", "width"), [(1, WIDTH), (0, WIDTH // 2), (None, 2 * WIDTH)])
def test_of_several_videos_the_default_one_then_the_largest(
    default: int | None, width: int, tmp_path: Path
) -> None:
    sizes = [(WIDTH // 2, HEIGHT // 2), (WIDTH, HEIGHT), (2 * WIDTH, 2 * HEIGHT)]
    source = open_source("cam", two_videos(tmp_path / "all.mkv", default, sizes))
    assert source.width == width
    place = sizes.index((source.width, source.height)) + 1
    assert describe(source).remarks == (f"video {place} of 3 in the file",)
    assert [read_number(frame.image) for frame in open_frames(source)] == list(range(4))


def test_tiles_of_a_picture_are_not_the_picture(make_video: MakeVideo) -> None:
    """HEIC of phones: FFmpeg shows each tile as a stream that depends on others."""
    path = make_video("tiles.mp4", n=1)
    with av.open(str(path)) as container:
        container.streams.video[0].disposition = Disposition.dependent
        with pytest.raises(InputError, match=r"tiles\.mp4: a tiled HEIC.*convert it to JPEG"):
            video_stream(container, path)


def test_skipped_frames_are_counted_but_not_delivered(make_video: MakeVideo) -> None:
    source = open_source("cam", make_video(n=20))
    every = list(open_frames(source, start=2, every=3))
    rest = list(open_frames(source, start=2, every=3, skip=4))
    assert [f.index for f in rest] == [f.index for f in every][4:]
    np.testing.assert_array_equal(rest[0].image, every[4].image)


def test_a_header_that_claims_impossible_colours_ends_the_good_part(
    make_video: MakeVideo, capsys: pytest.CaptureFixture[str]
) -> None:
    """Once an error of densefit's own: the picture decodes, but cannot be converted to RGB."""
    path = make_video("a.mov", n=8, codec="prores_ks", pix_fmt="yuv422p10le")
    parts = path.read_bytes().split(b"icpf")  # each ProRes picture's mark
    matrix = 16  # of the bytes behind the mark, the one that names the colour matrix
    parts[5] = parts[5][:matrix] + b"\x0a" + parts[5][matrix + 1 :]
    path.write_bytes(b"icpf".join(parts))
    assert numbers(decode(path)) == list(range(4))
    assert f"{path}" in capsys.readouterr().err


def test_a_pixel_of_impossible_shape_is_refused() -> None:
    picture = av.VideoFrame.from_ndarray(number_picture(3), format="rgb24")
    assert upright_rgb(picture, Fraction(2, 1)).shape == (HEIGHT, 2 * WIDTH, 3)
    with pytest.raises(ValueError, match="60000 times as wide as high"):
        upright_rgb(picture, Fraction(60000, 1))
