"""`densefit demo`: the whole way from three videos to an animated head, on the sample take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from densefit.cli.options import Device, Threads


def demo(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for sample and results.")] = Path(
        "densefit-demo"
    ),
    device: Device = "auto",
    threads: Threads = None,
) -> None:
    """Run predict, fit-rig and export on the sample take that comes with densefit."""
    from densefit.demo import run_demo

    for title, path in run_demo(out, device, threads).items():
        typer.echo(f"{title + ':':10} {path}")
