"""`densefit export`: a finished fit becomes files for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from densefit.cli.options import Model


def export(
    out: Annotated[Path, typer.Argument(help="Output folder of `densefit fit-rig`.")],
    formats: Annotated[
        list[str] | None,
        typer.Option(
            "--format", "-f", help="glb, ply, obj, npz or csv; may be given several times. [glb]"
        ),
    ] = None,
    frames: Annotated[
        str | None, typer.Option("--frames", help="Only frames a:b (b excluded).")
    ] = None,
    fps: Annotated[
        float | None,
        typer.Option("--fps", help="Frame rate to write; default: the take's own times."),
    ] = None,
    up: Annotated[
        Literal["world", "y", "z"],
        typer.Option("--up", help="Axes of ply, obj and npz; glb is always y-up."),
    ] = "world",
    model: Model = None,
) -> None:
    """Write the animated head as glb, ply, obj, npz or csv into OUT/export/<format>."""
    from densefit.export.formats import export as run_export
    from densefit.export.scene import ExportOptions
    from densefit.progress import info

    options = ExportOptions(frames=frames, fps=fps, up=up)
    written = run_export(out, formats or ["glb"], options, model)
    for name, files in written.items():
        where = files[0] if len(files) == 1 else files[0].parent
        info(f"{name}: {len(files)} {'file' if len(files) == 1 else 'files'}")
        typer.echo(where)
