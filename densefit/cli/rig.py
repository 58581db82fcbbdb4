"""`densefit rig`: what can be done with rig files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

rig_app = typer.Typer(no_args_is_help=True, help="Convert and check rig files.")


@rig_app.callback()
def _group() -> None:
    """Convert and check rig files."""


@rig_app.command("convert")
def convert(
    source: Annotated[
        Path, typer.Argument(metavar="IN", help="Caliscope camera_array.toml or aniposelib .toml.")
    ],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="rig.yaml to write.")],
) -> None:
    """Convert another tool's calibration to rig.yaml."""
    raise typer.Exit(1)
