"""Recordings told without decoding: rhythm, dropped frames, codec, remarks."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
from recordings import MakeVideo, number_picture

from densefit.capture import Take, master_timeline, open_source
from densefit.capture.describe import describe, rhythm


def test_dropped_frames_are_no_variable_rate() -> None:
    times = np.delete(np.arange(200) / 29.97, [17, 80, 81, 82, 150])
    found = rhythm(np.round(times, 3))  # as Matroska stores them
    assert found.fps == pytest.approx(29.97, abs=0.02)
    assert (found.dropped, found.variable) == (5, False)
    assert found.longest == pytest.approx(4 / 29.97, abs=2e-3)


def test_variable_rate() -> None:
    rng = np.random.default_rng(0)
    assert rhythm(np.cumsum(rng.uniform(0.02, 0.06, 200))).variable
    steady = rhythm(np.arange(100) / 25 + rng.normal(0, 2e-4, 100))
    assert (steady.variable, steady.dropped) == (False, 0)


def test_frames_that_claim_one_time_follow_one_another(make_video: MakeVideo) -> None:
    """Two recordings in one file: once a division by zero in the timeline."""
    path = make_video("twice.webm", n=6, codec="libvpx-vp9", options={"deadline": "realtime"})
    path.write_bytes(path.read_bytes() * 2)
    source = open_source("twice", path)
    times = describe(source).times
    assert len(times) == 12 and (np.diff(times) > 0).all()
    assert len(master_timeline(Take("twice", {"twice": source}, None), {"twice": times}).time) >= 6


def test_a_header_that_claims_too_many_frames(make_video: MakeVideo) -> None:
    """Of a stream without times the frames are counted, but not beyond what the file can hold."""
    path = make_video("raw.h264", n=8, options={"bf": "0"})
    source = replace(open_source("raw", path), n_frames_estimate=10**15)
    assert len(describe(source).times) <= path.stat().st_size


@pytest.mark.parametrize("times", [[], [1.0], [1.0, 1.0, 1.0]])
def test_too_short_to_tell(times: list[float]) -> None:
    assert rhythm(np.array(times)).fps == 0


def test_a_video(make_video: MakeVideo) -> None:
    pts = [i for i in range(30) if i not in (11, 12)]
    path = make_video(
        "phone.mp4", n=28, pts=pts, time_base=Fraction(1, 25), rotation=90, codec="libx265"
    )
    facts = describe(open_source("phone", path))
    assert (facts.codec, facts.pixel_format) == ("hevc", "yuv420p")
    assert facts.remarks == ("rotated",)
    assert len(facts.times) == 28 and facts.rhythm.dropped == 2
    assert facts.bytes == path.stat().st_size


def test_interlaced_and_hdr_are_remarked(make_video: MakeVideo) -> None:
    options = {"flags": "+ildct+ilme", "x264-params": "tff=1"}
    path = make_video("i.mov", n=4, options=options)
    assert "interlaced" in describe(open_source("i", path)).remarks

    def grey(number: int, width: int, height: int) -> np.ndarray:
        return np.full((height, width, 3), 20000, np.uint16)

    path = make_video(
        "h.mp4", n=3, codec="libx265", pix_fmt="yuv420p10le", picture=grey, hdr=(9, 9, 18)
    )
    assert "HDR (HLG)" in describe(open_source("h", path)).remarks


def test_a_film_in_pictures(tmp_path: Path) -> None:
    for i in range(4):
        cv2.imwrite(str(tmp_path / f"{i:03d}.png"), number_picture(i))
    facts = describe(open_source("film", tmp_path / "%03d.png", fps=12))
    assert facts.codec == "png" and facts.rhythm.fps == pytest.approx(12)
