"""What commands print on stdout: nothing but results."""

from __future__ import annotations

import json
from typing import Any

import typer


def print_json(value: Any) -> None:
    """A summary as indented JSON; paths as text, NaN refused."""
    typer.echo(json.dumps(value, default=str, indent=2, allow_nan=False))
