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
