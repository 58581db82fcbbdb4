"""`densefit model`: other head models."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

HELP = "Import other head models for --model."


def import_model(
    kind: Annotated[
        Literal["ict", "gnm", "flame"],
        typer.Argument(help="ict: ICT-FaceKit. gnm: GNM Head 3. flame: FLAME."),
    ],
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SOURCE", help="ict: its folder. gnm: gnm_head.npz. flame: the model as .npz."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Head model to write (.npz).")],
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a file that exists.")
    ] = False,
) -> None:
    """Write another head model in densefit's format, for --model of the other commands.

    Its identity space is kept; the 703 landmarks, and whatever else it lacks, are carried over
    from densefit's head by registration. Mind the licence of the model that you import.
    """
    import importlib

    from densefit.errors import UsageError
    from densefit.head.foreign.convert import convert
    from densefit.head.model import load_head
    from densefit.model_file import open_head

    if out.exists() and not overwrite:
        raise UsageError(f"{out} exists; give another --out, or --overwrite to replace it")
    reader = importlib.import_module(f"densefit.head.foreign.{kind}")
    written = convert(reader.read(source), load_head(), out)
    head = open_head(written)
    typer.echo(
        f"{written}: {head.name}, {len(head.template)} vertices, {head.identity_count} identity "
        f"modes, {written.stat().st_size / 1e6:.1f} MB"
    )


COMMANDS = {"import": import_model}
