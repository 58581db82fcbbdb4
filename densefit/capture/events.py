"""Offsets between cameras from something that all of them heard or saw: a clap, or a flash."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from densefit.capture.clock import Clock
from densefit.capture.source import Source, open_video
from densefit.capture.streams import video_stream
from densefit.errors import InputError

# Sound is compared by its loudness at this many steps a second.
_STEPS = 1000
_SAMPLE_RATE = 8000
# A match is clear when no other, this far away (s), comes near it.
_APART, _CLEAR = 0.1, 1.25
# A flash stands out of the usual changes from frame to frame by this factor.
_FLASH = 8.0


@dataclass(frozen=True)
class _Signal:
    """A quantity over a camera's own time."""

    start: float
    """s, of the first value"""
    values: np.ndarray
    """(N,) float64, one every 1 / _STEPS s"""


def event_offsets(mode: str, sources: Mapping[str, Source]) -> dict[str, float]:
    """Seconds to add to each camera's times, so that the event is at one moment; the first is 0.

    Args:
        mode: `clap` compares the sound of the videos, `flash` their brightness.
        sources: at least one; all videos.
    Raises:
        InputError: a recording is no video, has no sound, or the event does not stand out in it.
    """
    for source in sources.values():
        if source.kind != "video":
            raise InputError(f"{source.path}: no video; sync by {mode} needs videos, use another")
    find: Callable[[dict[str, Source]], dict[str, float]]
    find = _by_sound if mode == "clap" else _by_light
    return find(dict(sources))


def _by_sound(sources: dict[str, Source]) -> dict[str, float]:
    signals = {name: _loudness_steps(source) for name, source in sources.items()}
    reference = next(iter(signals.values()))
    return {
        name: 0.0 if signal is reference else _lag(reference, signal, sources[name])
        for name, signal in signals.items()
    }


def _loudness_steps(source: Source) -> _Signal:
    """How suddenly it gets louder: what a clap does at the same moment in every recording."""
    start, samples = _sound(source)
    hop = _SAMPLE_RATE // _STEPS
    energy = (samples[: len(samples) // hop * hop].reshape(-1, hop) ** 2).mean(1)
    if len(energy) < _STEPS // 4 or not energy.max() > 0:
        raise InputError(f"{source.path}: silent or too short; use another sync")
    # Microphones differ in level; the floor keeps noise in silence from looking like steps.
    level = np.log(energy + 1e-4 * energy.max())
    before = np.convolve(level, np.ones(10) / 10)[: len(level)]
    rise = np.maximum(level[10:] - before[9:-1], 0) ** 2
    return _Signal(start + 10 / _STEPS, rise)


def _sound(source: Source) -> tuple[float, np.ndarray]:
    """Time of the first sample (s, the camera's clock) and samples (N,) float64 at 8 kHz."""
    import av

    resampler = av.AudioResampler(format="flt", layout="mono", rate=_SAMPLE_RATE)
    parts: list[np.ndarray] = []
    start: float | None = None
    with open_video(source.path) as container:
        if not container.streams.audio:
            raise InputError(f"{source.path}: has no sound; use another sync than clap")
        stream = container.streams.audio[0]
        try:
            for frame in container.decode(stream):
                if start is None:
                    start = 0.0 if frame.pts is None else float(frame.pts * frame.time_base)
                parts += [out.to_ndarray().ravel() for out in resampler.resample(frame)]
        except av.FFmpegError:
            pass  # the good beginning is used, as that of the video is
        parts += [out.to_ndarray().ravel() for out in resampler.resample(None)]
    samples = np.concatenate(parts) if parts else np.zeros(0, np.float32)
    return start or 0.0, samples.astype(np.float64)


def _lag(reference: _Signal, signal: _Signal, source: Source) -> float:
    """Seconds to add to the signal's times so that it matches the reference."""
    from scipy.signal import correlate

    score = correlate(reference.values, signal.values, mode="full", method="fft")
    best = int(score.argmax())
    far = np.abs(np.arange(len(score)) - best) > _APART * _STEPS
    if score[best] < _CLEAR * max(score[far].max(initial=0.0), 1e-12):
        raise InputError(
            f"{source.path}: its sound does not clearly match that of the first camera; use "
            "another sync, or give offsets in take.yaml"
        )
    steps = best - (len(signal.values) - 1)
    return reference.start - signal.start + steps / _STEPS


def _by_light(sources: dict[str, Source]) -> dict[str, float]:
    moments = {name: _flash(source) for name, source in sources.items()}
    first = next(iter(moments.values()))
    return {name: first - moment for name, moment in moments.items()}


def _flash(source: Source) -> float:
    """Presentation time of the frame that is suddenly brighter, s."""
    times, light = [], []
    with open_video(source.path) as container:
        stream = video_stream(container, source.path)
        stream.thread_type = "AUTO"
        clock = Clock(source, stream)
        for picture in _decoded(container, stream):
            times.append(clock.time_of(picture))
            small = picture.reformat(width=32, height=18, format="gray")
            light.append(float(small.to_ndarray().mean()))
    rise = np.diff(np.array(light))
    usual = float(np.median(np.abs(rise))) + 0.25 if len(rise) else 0.0
    if len(rise) == 0 or rise.max() < _FLASH * usual:
        raise InputError(
            f"{source.path}: no flash in it; use another sync, or give offsets in take.yaml"
        )
    return times[int(rise.argmax()) + 1]


def _decoded(container: Any, stream: Any) -> Any:
    """Pictures up to the first that is damaged."""
    import av

    try:
        yield from container.decode(stream)
    except av.FFmpegError:
        return
