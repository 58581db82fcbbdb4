"""One timeline for all cameras: who was taken together, and nothing twice."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from recordings import MakeVideo

from densefit.capture import Source, Take, load_take, master_timeline, open_frames
from densefit.capture.sync_table import read_sync_table
from densefit.capture.timecode import parse_timecode
from densefit.capture.timeline import match_frames


def make_take(times: dict[str, np.ndarray], **changes: Any) -> Take:
    """A take of imagined videos at 25 frames/s."""
    sources = {
        name: Source(
            name=name,
            path=Path(f"{name}.mp4"),
            kind="video",
            width=8,
            height=8,
            fps=25,
            n_frames_estimate=len(t),
            duration=len(t) / 25,
            start_time=float(t[0]) if len(t) else 0.0,
        )
        for name, t in times.items()
    }
    return Take("take", sources, None, **changes)


def clock(n: int, start: float = 0.0, fps: float = 25.0) -> np.ndarray:
    return start + np.arange(n) / fps


def check_invariants(time: np.ndarray, index: np.ndarray) -> None:
    assert (np.diff(time) > 0).all()
    assert (index >= 0).any(axis=1).all()
    for column in index.T:
        rows = column[column >= 0]
        assert (np.diff(rows) > 0).all(), "a frame is repeated or out of order"


def test_equal_clocks() -> None:
    times = {"a": clock(5), "b": clock(5)}
    line = master_timeline(make_take(times), times)
    np.testing.assert_array_equal(line.index, np.stack([np.arange(5)] * 2, axis=1))
    np.testing.assert_array_equal(line.time, clock(5))
    assert line.cameras == ("a", "b")


def test_a_dropped_frame_is_a_gap_in_its_camera_only() -> None:
    for dropped in ("a", "b"):
        times = {"a": clock(6), "b": clock(6)}
        times[dropped] = np.delete(times[dropped], 2)
        line = master_timeline(make_take(times), times)
        assert len(line.time) == 6
        column = line.cameras.index(dropped)
        np.testing.assert_array_equal(line.index[:, column], [0, 1, -1, 2, 3, 4])
        np.testing.assert_array_equal(line.index[:, 1 - column], np.arange(6))


def test_offset_and_clock_rate() -> None:
    """t_master = rate * t_camera + offset."""
    times = {"a": clock(10), "b": (clock(10) - 0.08) / 1.0001}
    take = make_take(times, offsets={"b": 0.08}, clock_rates={"b": 1.0001})
    line = master_timeline(take, times)
    np.testing.assert_array_equal(line.index[:, 0], line.index[:, 1])
    late = make_take(times | {"b": clock(10)}, offsets={"b": 0.08})
    line = master_timeline(late, {"a": clock(10), "b": clock(10)})
    np.testing.assert_array_equal(line.index[:, 0], [*range(10), -1, -1])
    np.testing.assert_array_equal(line.index[:, 1], [-1, -1, *range(10)])
    np.testing.assert_allclose(line.time, clock(12))


def test_half_the_rate_leaves_gaps_and_repeats_nothing() -> None:
    time, index = match_frames([clock(4, fps=12.5), clock(8)], 0.04)
    np.testing.assert_allclose(time, clock(8))
    np.testing.assert_array_equal(index[:, 1], np.arange(8))
    np.testing.assert_array_equal(index[:, 0], [0, -1, 1, -1, 2, -1, 3, -1])


def test_nearest_frame_within_half_a_period() -> None:
    time, index = match_frames([clock(4), clock(4) + 0.015], 0.04)
    np.testing.assert_array_equal(index, np.stack([np.arange(4)] * 2, axis=1))
    time, index = match_frames([clock(4), clock(4) + 0.025], 0.04)
    assert index[1, 1] == 0  # nearer to the second frame than to the first
    check_invariants(time, index)


def test_two_frames_for_one_moment_keep_the_nearer() -> None:
    doubled = np.array([0.0, 0.035, 0.041, 0.08, 0.12, 0.16, 0.2, 0.24, 0.28])
    _, index = match_frames([clock(8), doubled], 0.04)
    np.testing.assert_array_equal(index[:, 1], [0, 2, 3, 4, 5, 6, 7, 8])


def test_drifting_and_jittering_clocks_keep_the_promises() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        times = []
        for fps in rng.choice([24.0, 25.0, 29.97, 50.0, 60.0], 3):
            t = clock(80, rng.uniform(0, 0.5), fps) + rng.normal(0, 0.05 / fps, 80)
            times.append(np.sort(t)[rng.random(80) > 0.1])
        period = 1 / 60
        time, index = match_frames(times, period)
        check_invariants(time, index)
        for column, own in zip(index.T, times, strict=True):
            used = column >= 0
            assert np.abs(own[column[used]] - time[used]).max() <= 0.51 * period


def test_clocks_that_do_not_overlap_start_together(capsys: pytest.CaptureFixture[str]) -> None:
    times = {"a": clock(5), "b": clock(5, start=1000.0)}
    line = master_timeline(make_take(times), times)
    np.testing.assert_array_equal(line.index[:, 0], line.index[:, 1])
    assert "do not overlap" in capsys.readouterr().err


def test_frames_mode_ignores_times() -> None:
    times = {"a": clock(5), "b": np.array([0.0, 0.1, 0.15, 0.6, 0.7])}
    line = master_timeline(make_take(times, sync="frames"), times)
    np.testing.assert_array_equal(line.index[:, 0], line.index[:, 1])


def test_no_frames_and_one_camera() -> None:
    times = {"a": np.zeros(0)}
    assert master_timeline(make_take(times), times).index.shape == (0, 1)
    times = {"a": clock(3), "b": np.zeros(0)}
    line = master_timeline(make_take(times), times)
    np.testing.assert_array_equal(line.index, [[0, -1], [1, -1], [2, -1]])


@pytest.mark.parametrize(
    ("text", "rate", "seconds"),
    [
        ("01:00:00:00", Fraction(25), 3600.0),
        ("00:00:01:12", Fraction(24), 1.5),
        ("00:01:00:00", Fraction(30000, 1001), 60.06),
        ("00:01:00;02", Fraction(30000, 1001), 60.06),
        ("00:10:00;00", Fraction(30000, 1001), 599.9994),
        ("00:01:00;04", Fraction(60000, 1001), 60.06),
        ("10:00:00:00", Fraction(2987, 100), 36036.0),
        ("10:00:00:00", Fraction(3003, 100), 36000.0),
        ("00:00:00:25", Fraction(25), None),
        ("noon", Fraction(25), None),
    ],
)
def test_timecode(text: str, rate: Fraction, seconds: float | None) -> None:
    value = parse_timecode(text, rate)
    assert value == (None if seconds is None else pytest.approx(seconds, abs=1e-3))


def test_timecode_of_real_files(tmp_path: Path, make_video: MakeVideo) -> None:
    for name, code in (("left", "10:00:00:00"), ("right", "10:00:00:05")):
        make_video(f"{name}.mov", n=20, metadata={"timecode": code})
    (tmp_path / "rig.yaml").write_text(
        "version: 1\ncameras: {left: {width: 96, height: 64}, right: {width: 96, height: 64}}\n"
    )
    for sync in ("auto", "timecode"):
        take = load_take(
            [tmp_path / "rig.yaml", tmp_path / "left.mov", tmp_path / "right.mov"], sync=sync
        )
        times = {n: np.array([f.time for f in open_frames(s)]) for n, s in take.sources.items()}
        line = master_timeline(take, times)
        assert len(line.time) == 25
        np.testing.assert_array_equal(line.index[5:20, 0], np.arange(5, 20))
        np.testing.assert_array_equal(line.index[5:20, 1], np.arange(15))


def test_timecode_over_midnight() -> None:
    times = {"a": clock(50), "b": clock(50)}
    take = make_take(times, sync="timecode")
    from dataclasses import replace

    sources = {
        "a": replace(take.sources["a"], timecode=86399.0),
        "b": replace(take.sources["b"], timecode=0.0),
    }
    line = master_timeline(replace(take, sources=sources), times)
    np.testing.assert_array_equal(line.index[25:50, 0], np.arange(25, 50))
    np.testing.assert_array_equal(line.index[25:50, 1], np.arange(25))


TABLE = """cam_id,frame_time,frame_index,sync_index
1,10.001,26,3
0,10.000,26,3
0,10.041,27,4
1,10.081,28,5
0,10.080,28,5
"""


def table_take(folder: Path, text: str, **changes: Any) -> tuple[Take, dict[str, np.ndarray]]:
    """cam_0 has three frames, cam_1 two; frame i of a camera is its i-th row."""
    path = folder / "times.csv"
    path.write_text(text)
    times = {"cam_0": clock(3), "cam_1": clock(2)}
    table = read_sync_table(path, list(times))
    return make_take(times, sync="csv", sync_table=table, **changes), times


def test_table_groups_by_sync_index(tmp_path: Path) -> None:
    line = master_timeline(*table_take(tmp_path, TABLE))
    np.testing.assert_array_equal(line.index, [[0, 0], [1, -1], [2, 1]])
    np.testing.assert_allclose(line.time, [10.0005, 10.041, 10.0805])


def test_table_without_sync_index_matches_by_time(tmp_path: Path) -> None:
    text = "\n".join(line.rsplit(",", 1)[0] for line in TABLE.splitlines())
    line = master_timeline(*table_take(tmp_path, text))
    np.testing.assert_array_equal(line.index, [[0, 0], [1, -1], [2, 1]])
    np.testing.assert_allclose(line.time, [10.0, 10.041, 10.08])


def test_offsets_apply_on_top_of_a_table(tmp_path: Path) -> None:
    line = master_timeline(*table_take(tmp_path, TABLE, offsets={"cam_1": -0.04}))
    np.testing.assert_array_equal(line.index, [[-1, 0], [0, -1], [1, 1], [2, -1]])


def test_frames_beyond_the_table_are_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    take, times = table_take(tmp_path, TABLE)
    times["cam_1"] = clock(4)
    line = master_timeline(take, times)
    np.testing.assert_array_equal(line.index[:, 1], [0, -1, 1])
    assert "no rows for the last 2 frames of camera 'cam_1'" in capsys.readouterr().err


def test_table_counts_frames_of_the_recording_not_of_the_range(
    tmp_path: Path, make_video: MakeVideo
) -> None:
    path = make_video("left.mp4", n=20)
    rows = "".join(f"left,{100 + i / 25}\n" for i in range(20))
    (tmp_path / "times.csv").write_text("cam_id,frame_time\n" + rows)
    take = load_take([path], sync=str(tmp_path / "times.csv"))
    frames = list(open_frames(take.sources["left"], start=4, every=3))
    times = {"left": np.array([f.time for f in frames])}
    line = master_timeline(take, times)
    np.testing.assert_allclose(line.time, [100 + f.index / 25 for f in frames])
    np.testing.assert_array_equal(line.index[:, 0], np.arange(len(frames)))
