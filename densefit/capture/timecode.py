"""SMPTE timecode, as cameras write it into their files."""

from __future__ import annotations

import re
from fractions import Fraction

_TIMECODE = re.compile(r"(\d\d):(\d\d):(\d\d)([:;.])(\d\d+)")


def parse_timecode(text: str, rate: Fraction) -> float | None:
    """`HH:MM:SS:FF` -> seconds since the timecode's midnight; None when it is not a timecode.

    Args:
        text: the tag; a `;` or `.` before the frames marks drop-frame counting.
        rate: frames per second. Timecode counts whole frames, so 29.97 counts to 30 a second.
    """
    match = _TIMECODE.fullmatch(text.strip())
    if not match or rate <= 0:
        return None
    hours, minutes, seconds, frames = (int(match[i]) for i in (1, 2, 3, 5))
    rate = _standard(rate)
    nominal = round(rate)
    if nominal < 1 or minutes > 59 or seconds > 59 or frames >= nominal:
        return None
    count = ((hours * 60 + minutes) * 60 + seconds) * nominal + frames
    if match[4] != ":" and nominal % 30 == 0:
        # Drop-frame skips two numbers (four at 60) each minute but the tenth ones (SMPTE ST 12-1).
        all_minutes = hours * 60 + minutes
        count -= nominal // 15 * (all_minutes - all_minutes // 10)
    return float(count / rate)


def _standard(rate: Fraction) -> Fraction:
    """The rate that timecode can count with: phones' rates waver, and an hour counts them up."""
    whole = round(rate)
    slowed = Fraction(whole * 1000, 1001)
    nearest = min(Fraction(whole), slowed, key=lambda candidate: abs(candidate - rate))
    return nearest if whole and abs(nearest - rate) < Fraction(2, 100) * rate else rate


def is_drop_frame(text: str) -> bool:
    """Whether a timecode is written with the `;` or `.` of drop-frame counting."""
    match = _TIMECODE.fullmatch(text.strip())
    return bool(match) and match[4] != ":"  # type: ignore[index]


def format_timecode(seconds: float, rate: float, drop_frame: bool = False) -> str:
    """Seconds since midnight -> `HH:MM:SS:FF.fff`, fff thousandths of a frame.

    The inverse of `parse_timecode`: the label counts whole frames, 30 a second at 29.97.

    Args:
        rate: frames per second.
        drop_frame: skip labels as drop-frame timecode does, where the rate allows that.
    """
    exact = _standard(Fraction(rate).limit_denominator(1_000_000))
    nominal = max(1, round(exact))
    thousandths = round(seconds * exact * 1000)
    count, fraction = divmod(thousandths, 1000)
    if drop_frame and nominal % 30 == 0:
        count = _with_dropped_labels(count, nominal)
    frames = count % nominal
    total = count // nominal
    hours, minutes = total // 3600 % 24, total // 60 % 60
    return f"{hours:02d}:{minutes:02d}:{total % 60:02d}:{frames:02d}.{fraction:03d}"


def _with_dropped_labels(count: int, nominal: int) -> int:
    """Frame number to label: two labels (four at 60) are left out each minute but the tenth."""
    dropped = nominal // 15
    minute = nominal * 60 - dropped
    tens, rest = divmod(count, minute * 10 + dropped)
    skipped_minutes = max(0, (rest - dropped) // minute) if rest >= nominal * 60 else 0
    return count + dropped * (9 * tens + skipped_minutes)
