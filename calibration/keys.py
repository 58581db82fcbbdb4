"""Checks that YAML and TOML readers share: known keys and 'did you mean'."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from calibration.errors import CalibrationError


def suggestion(word: str, known: Iterable[str]) -> str:
    """'; did you mean X?' for the nearest known word, or '; known are: ...'."""
    known = list(known)
    folded = {name.lower(): name for name in known}
    near = difflib.get_close_matches(str(word).lower(), list(folded), n=1, cutoff=0.6)
    if near:
        return f"; did you mean '{folded[near[0]]}'?"
    return f"; known are: {', '.join(known)}"


def check_keys(mapping: dict[str, object], known: Iterable[str], where: str) -> None:
    """Raise CalibrationError at the first key that is not known; `where` begins the message."""
    for key in mapping:
        if key not in known:
            raise CalibrationError(f"{where}: unknown key '{key}'{suggestion(key, known)}")
