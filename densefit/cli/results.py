"""What commands print on stdout: nothing but results; and the same as a JSON file."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import typer

NARROW = 10
"""Characters a column, below which a table is not one."""


def print_json(value: Any) -> None:
    """A summary as indented JSON; paths as text, NaN and infinity (no JSON) as null."""
    typer.echo(json.dumps(_finite(value), default=str, indent=2, allow_nan=False))


def check_result_file(path: Path | None, option: str) -> None:
    """Make the folder of a file that is written at the end; before the work, None is no file.

    Raises:
        InputError: the folder cannot be written, or `path` is a folder itself.
    """
    from densefit.errors import InputError
    from densefit.files import ensure_out_dir

    if path is None:
        return
    if path.is_dir():
        raise InputError(f"{path} is a folder; name a file with {option}")
    ensure_out_dir(path.parent)


def write_json_file(path: Path, value: Any) -> None:
    """A summary as a JSON file, as `print_json` prints it."""
    from densefit.files import write_json

    write_json(path, _finite(value))


def print_table(
    headings: Sequence[str], rows: Iterable[Sequence[str]], title: str | None = None
) -> None:
    """A table as wide as the terminal, long cells folded; where that is narrow, line by line."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console(markup=False, highlight=False)
    # Into a pipe the table may be as wide as it wants.
    console.width = console.width if console.is_terminal else 200
    if console.width < NARROW * len(headings):
        for row in rows:
            for heading, cell in zip(headings, row, strict=True):
                console.print(f"{heading}: {cell}")
            console.print()
        return
    table = Table(title=title, title_justify="left", box=box.SIMPLE)
    for heading in headings:
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*row)
    console.print(table)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
