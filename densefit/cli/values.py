"""Values of options and arguments that several commands read in the same way."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

# By these a name is that of a file, also where no command writes such files.
_FILES = frozenset(
    ".yaml .yml .toml .json .xml .txt .bin .krt .csv .npz .pdf .png .jpg .jpeg .html .mp4".split()
)


def typed(parse: Callable[[Any], T], text: str | None) -> T:
    """An option's value; UsageError where `parse` raises CalibrationError."""
    from calibration import CalibrationError
    from densefit.errors import UsageError

    try:
        return parse(text)
    except CalibrationError as error:
        raise UsageError(str(error)) from error


def file_in(out: Path, suffixes: tuple[str, ...], usual: str) -> Path:
    """The file to write: `out` itself where it has one of the suffixes, else `usual` in it.

    Raises:
        UsageError: `out` is named like a file of another kind.
    """
    if out.suffix.lower() in suffixes and not out.is_dir():
        return out
    refuse_other_suffix(out, suffixes, f"or a folder for {usual}")
    return out / usual


def refuse_other_suffix(out: Path, suffixes: tuple[str, ...], otherwise: str = "") -> None:
    """UsageError where `out` is named like a file, but not one with these suffixes."""
    from densefit.errors import UsageError

    suffix = out.suffix.lower()
    if suffix in _FILES and suffix not in suffixes and not out.is_dir():
        wanted = " ".join(filter(None, (" or ".join(suffixes), otherwise)))
        raise UsageError(f"{out}: {suffix} is not what is written there; give {wanted}")


def refuse_existing(written: list[Path], overwrite: bool, another: str = "-o") -> None:
    """UsageError when files that would be written exist and were not to be replaced."""
    from densefit.errors import UsageError

    for existing in written:
        if existing.exists() and not overwrite:
            raise UsageError(
                f"{existing} exists; give another {another}, or --overwrite to replace it"
            )
