"""One timeline for all cameras: which frames were taken at the same moment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from densefit.capture.source import Source
from densefit.capture.take import Take
from densefit.errors import InputError
from densefit.progress import warn

# A frame belongs to a master frame within half a period; the rest allows for jitter at the edge.
_MATCH = 0.51
# A frame further than this (in periods) from every master frame opens a new one.
_NEW = 0.75


@dataclass(frozen=True, eq=False)
class MasterTimeline:
    """The moments that are fitted and each camera's frame at them."""

    time: np.ndarray
    """(T,) float64, seconds, strictly increasing, on the master clock."""
    index: np.ndarray
    """(T, C) int64: row of the camera's time array, or -1; no row appears twice."""
    cameras: tuple[str, ...]
    """(C,) names, the order of the columns."""
    phase: np.ndarray | None = None
    """(T, C) float64, seconds: how much later than the master's moment the frame was taken; zero
    where there is none. None: frames that belong together are simultaneous."""


def master_timeline(
    take: Take,
    times: Mapping[str, np.ndarray],
    frame_numbers: Mapping[str, np.ndarray] | None = None,
) -> MasterTimeline:
    """Match the frames of all cameras.

    Args:
        take: says how the clocks relate.
        times: per camera (T_c,) float64, presentation times on its own clock, increasing; the
            columns of the result keep this order.
        frame_numbers: per camera (T_c,) int, the frames' numbers in the recording. Only sync by
            frames or csv needs them, and only where frames were skipped; default: found from times.
    Raises:
        InputError: clocks that cannot be related.
    """
    cameras = tuple(times)
    clean = {name: np.asarray(times[name], dtype=np.float64) for name in cameras}
    numbers = {
        name: np.asarray(frame_numbers[name])
        if frame_numbers is not None
        else _frame_numbers(take, name, clean[name])
        for name in cameras
    }
    if grouped_by_table(take):
        time, index = _by_sync_index(take, cameras, numbers)
        phase = None
    else:
        master = _master_times(take, clean, numbers)
        period = _period(take, master)
        time, index = match_frames([master[name] for name in cameras], period)
        phase = np.zeros(index.shape)
        for column, name in enumerate(cameras):
            found = index[:, column] >= 0
            phase[found, column] = master[name][index[found, column]] - time[found]
    return MasterTimeline(time, index, cameras, phase)


def match_frames(times: list[np.ndarray], period: float) -> tuple[np.ndarray, np.ndarray]:
    """Match frames by time.

    The densest camera sets the master frames; where it has none, the others do.

    Args:
        times: C arrays (T_c,), seconds on one clock, increasing; NaN for frames to leave out.
        period: seconds between master frames.
    Returns:
        (T,) master times and (T, C) int64 rows or -1.
    """
    ticks = np.zeros(0)
    for rank in sorted(range(len(times)), key=lambda c: (-_density(times[c]), c)):
        own = times[rank][np.isfinite(times[rank])]
        far = np.abs(own - _nearest(ticks, own)) > _NEW * period if len(ticks) else np.isfinite(own)
        ticks = np.sort(np.concatenate([ticks, own[far]]))
    index = np.full((len(ticks), len(times)), -1, dtype=np.int64)
    for camera, own in enumerate(times):
        _assign(ticks, own, _MATCH * period, index[:, camera])
    seen = (index >= 0).any(axis=1)
    return ticks[seen], index[seen]


def _assign(ticks: np.ndarray, own: np.ndarray, reach: float, column: np.ndarray) -> None:
    """Give each frame to its nearest tick; where two want the same, the nearer has it."""
    if len(ticks) == 0:
        return
    rows = np.flatnonzero(np.isfinite(own))
    tick = _nearest_index(ticks, own[rows])
    distance = np.abs(ticks[tick] - own[rows])
    near = distance <= reach
    rows, tick, distance = rows[near], tick[near], distance[near]
    # The nearest last, so that it is the one that stays.
    order = np.argsort(-distance, kind="stable")
    column[tick[order]] = rows[order]


def _nearest_index(sorted_values: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    right = np.searchsorted(sorted_values, wanted).clip(0, len(sorted_values) - 1)
    left = (right - 1).clip(0)
    closer = wanted - sorted_values[left] <= sorted_values[right] - wanted
    return np.where(closer, left, right)


def _nearest(sorted_values: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    return sorted_values[_nearest_index(sorted_values, wanted)]


def _density(times: np.ndarray) -> float:
    """Frames per second, rounded so that cameras of one rate rank by their order."""
    steps = np.diff(times[np.isfinite(times)])
    return round(1 / float(np.median(steps)), 1) if len(steps) else 0.0


def _period(take: Take, master: dict[str, np.ndarray]) -> float:
    steps = [float(np.median(np.diff(t))) for t in map(_finite, master.values()) if len(t) > 1]
    rates = [take.sources[name].fps for name in master]
    return min(steps) if steps else 1 / max(rates)


def _finite(times: np.ndarray) -> np.ndarray:
    return times[np.isfinite(times)]


def _master_times(
    take: Take, times: dict[str, np.ndarray], numbers: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Every camera's times on the master clock: rate * t_camera + offset."""
    mode = chosen_sync(take)
    if mode == "frames" and take.sync == "auto" and _are_videos(take):
        warn(
            "the recordings' presentation times do not overlap; their first frames are taken as "
            "simultaneous (set sync or offsets in take.yaml if they are not)"
        )
    if mode == "timecode":
        common = {name: _from_timecode(take, name, t) for name, t in times.items()}
    elif mode == "frames":
        rate = max(take.sources[name].fps for name in times)
        common = {name: n / rate for name, n in numbers.items()}
    elif mode == "csv":
        common = {name: _from_table(take, name, n) for name, n in numbers.items()}
    else:
        common = dict(times)
    return {
        name: take.clock_rates.get(name, 1.0) * t + take.offsets.get(name, 0.0)
        for name, t in common.items()
    }


def chosen_sync(take: Take) -> str:
    """The take's sync. `auto` is timecode where all have it, else presentation times if they
    overlap or there is one camera, else frame numbers."""
    if take.sync != "auto":
        return take.sync
    if not _are_videos(take):
        return "frames"
    sources = list(take.sources.values())
    if len(sources) == 1:
        return "pts"
    if all(source.timecode is not None for source in sources):
        return "timecode"
    latest_start = max(source.start_time for source in sources)
    earliest_end = min(source.start_time + source.duration for source in sources)
    return "pts" if latest_start < earliest_end else "frames"


def _are_videos(take: Take) -> bool:
    return all(source.kind == "video" for source in take.sources.values())


def _from_timecode(take: Take, name: str, times: np.ndarray) -> np.ndarray:
    source = take.sources[name]
    if source.timecode is None:
        raise InputError(f"{source.path}: has no timecode; use another sync in take.yaml")
    start = source.timecode
    others = [s.timecode for s in take.sources.values() if s.timecode is not None]
    # A take over midnight: timecode starts again from zero.
    if max(others) - start > 43200:
        start += 86400
    return start + times - source.start_time


def _from_table(take: Take, name: str, numbers: np.ndarray) -> np.ndarray:
    assert take.sync_table is not None
    table = take.sync_table.times[name]
    common = np.full(len(numbers), np.nan)
    inside = numbers < len(table)
    common[inside] = table[numbers[inside]]
    _warn_of_missing_rows(take, name, int((~inside).sum()))
    return common


def _warn_of_missing_rows(take: Take, name: str, missing: int) -> None:
    if missing and take.sync_table is not None:
        warn(f"{take.sync_table.path}: no rows for the last {missing} frames of camera '{name}'")


def grouped_by_table(take: Take) -> bool:
    """Whether the table itself says which frames belong together and nothing shifts them."""
    return (
        take.sync == "csv"
        and take.sync_table is not None
        and take.sync_table.sync_indices is not None
        and not any(take.offsets.values())
        and all(rate == 1.0 for rate in take.clock_rates.values())
    )


def _by_sync_index(
    take: Take, cameras: tuple[str, ...], numbers: dict[str, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Frames that share a sync_index form a master frame at their mean frame_time."""
    table = take.sync_table
    assert table is not None and table.sync_indices is not None
    rows_of: dict[int, list[tuple[int, int, float]]] = {}
    for column, name in enumerate(cameras):
        inside = np.flatnonzero(numbers[name] < len(table.times[name]))
        _warn_of_missing_rows(take, name, len(numbers[name]) - len(inside))
        for row in inside:
            number = numbers[name][row]
            group = int(table.sync_indices[name][number])
            rows_of.setdefault(group, []).append((column, int(row), table.times[name][number]))
    groups = sorted(rows_of)
    time = np.array([np.mean([t for *_, t in rows_of[group]]) for group in groups])
    index = np.full((len(groups), len(cameras)), -1, dtype=np.int64)
    for tick, group in enumerate(groups):
        for camera, own_row, _ in rows_of[group]:
            index[tick, camera] = own_row
    if (np.diff(time) <= 0).any():
        raise InputError(f"{table.path}: sync_index and frame_time disagree in order; mend it")
    return time, index


def _frame_numbers(take: Take, name: str, times: np.ndarray) -> np.ndarray:
    """Numbers in the recording of the frames with these presentation times."""
    source = take.sources[name]
    if source.kind != "video":
        return np.rint(times * source.fps).astype(np.int64)
    if take.sync not in ("frames", "csv", "auto") or _is_whole(source, times):
        return np.arange(len(times))
    from densefit.capture.clock import frame_times

    return _nearest_index(frame_times(source.path), times)


def _is_whole(source: Source, times: np.ndarray) -> bool:
    """Whether these are all frames from the first on: nothing skipped at the start or between."""
    if len(times) == 0:
        return True
    starts = abs(times[0] - source.start_time) < 1e-6
    return starts and 0 < source.n_frames_estimate <= len(times)
