"""Offsets from a clap that all cameras heard, or a flash that all saw."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
from recordings import HEIGHT, WIDTH, MakeVideo, number_picture

from densefit.capture import load_take, master_timeline, open_frames
from densefit.errors import InputError

RATE = 16000


def clap(t: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Speech-like hum, and a clap at 1.3 s that rings off in 30 ms."""
    hum = 0.05 * np.sin(2 * np.pi * 140 * t) * (1 + np.sin(2 * np.pi * 3 * t))
    ring = rng.normal(0, 1, len(t)) * np.exp(-np.maximum(t - 1.3, 0) / 0.03) * (t >= 1.3)
    return hum + 0.8 * ring


def film(
    path: Path,
    late: float,
    sound: Callable[[np.ndarray, np.random.Generator], np.ndarray] | None,
    seed: int,
    level: float = 0.5,
) -> Path:
    """75 frames at 25/s of a camera that was switched on `late` seconds after the first."""
    rng = np.random.default_rng(seed)
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=25)
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        audio = container.add_stream("aac", rate=RATE, layout="mono") if sound else None
        for i in range(75):
            picture = av.VideoFrame.from_ndarray(number_picture(i), format="rgb24")
            container.mux(video.encode(picture))
        if sound is not None and audio is not None:
            t = np.arange(3 * RATE) / RATE + late
            wave = level * sound(t, rng) + rng.normal(0, 0.002, len(t))
            for start in range(0, len(wave) - 1023, 1024):
                part = wave[None, start : start + 1024].astype(np.float32)
                frame = av.AudioFrame.from_ndarray(part, format="fltp", layout="mono")
                frame.sample_rate, frame.pts = RATE, start
                container.mux(audio.encode(frame))
            container.mux(audio.encode(None))
        container.mux(video.encode(None))
    return path


def rig_of(folder: Path, *names: str) -> Path:
    cameras = "".join(f"  {name}: {{width: {WIDTH}, height: {HEIGHT}}}\n" for name in names)
    (folder / "rig.yaml").write_text(f"version: 1\ncameras:\n{cameras}")
    return folder / "rig.yaml"


def test_a_clap(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Different microphones: other levels, other noise."""
    left = film(tmp_path / "left.mp4", 0.0, clap, 1)
    right = film(tmp_path / "right.mp4", 0.416, clap, 2, level=0.1)
    take = load_take([rig_of(tmp_path, "left", "right"), left, right], sync="clap")
    assert take.offsets["left"] == 0
    assert take.offsets["right"] == pytest.approx(0.416, abs=0.004)
    assert "clap: offsets" in capsys.readouterr().err
    times = {n: np.array([f.time for f in open_frames(s)]) for n, s in take.sources.items()}
    line = master_timeline(take, times)
    both = line.index[(line.index >= 0).all(1)]
    np.testing.assert_array_equal(both[:, 0] - both[:, 1], 10)  # 0.416 s are 10.4 frames


def test_sounds_that_have_nothing_in_common(tmp_path: Path) -> None:
    def hiss(t: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return rng.normal(0, 0.2, len(t))

    left = film(tmp_path / "left.mp4", 0.0, hiss, 1)
    right = film(tmp_path / "right.mp4", 0.0, hiss, 2)
    with pytest.raises(InputError, match=r"right\.mp4: its sound does not clearly match"):
        load_take([rig_of(tmp_path, "left", "right"), left, right], sync="clap")
    silent = film(tmp_path / "silent.mp4", 0.0, None, 3)
    with pytest.raises(InputError, match=r"silent\.mp4: has no sound"):
        load_take([rig_of(tmp_path, "left", "silent"), left, silent], sync="clap")


@pytest.mark.parametrize("kind", ["mp4", "avi"])
def test_a_flash(kind: str, tmp_path: Path, make_video: MakeVideo) -> None:
    def lit(at: int) -> Callable[[int, int, int], np.ndarray]:
        def picture(number: int, width: int, height: int) -> np.ndarray:
            bright = 60 + number % 3 + 150 * (at <= number < at + 2)
            return np.full((height, width, 3), bright, np.uint8)

        return picture

    left = make_video("left.mp4", n=30, picture=lit(20))
    right = make_video(f"right.{kind}", n=30, picture=lit(8))
    rig = rig_of(tmp_path, "left", "right", "dark")
    take = load_take([rig, left, right], sync="flash")
    assert take.offsets["right"] == pytest.approx(12 / 25, abs=1e-3)
    dark = make_video("dark.mp4", n=30, picture=lit(99))
    with pytest.raises(InputError, match=r"dark\.mp4: no flash"):
        load_take([rig, left, dark], sync="flash")


def test_photos_have_no_clap(tmp_path: Path) -> None:
    import cv2

    cv2.imwrite(str(tmp_path / "a.png"), number_picture(1))
    with pytest.raises(InputError, match="needs videos"):
        load_take([tmp_path / "a.png"], sync="clap")
