"""`densefit synth`: synthetic faces with exact landmarks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from densefit.cli.options import Model, Seed


def synth(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write into.")],
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="How many pictures.")] = 16,
    size: Annotated[
        int, typer.Option("--size", min=64, max=1024, help="Pixels a side, a multiple of 16.")
    ] = 256,
    kind: Annotated[
        Literal["png", "shards"],
        typer.Option(
            "--format",
            help="png: finished pictures with backgrounds, and labels.npz. "
            "shards: files of 128 cut-out renders, the last one of fewer, for `densefit train`.",
        ),
    ] = "png",
    environments: Annotated[
        Path | None,
        typer.Option(
            "--environments",
            help="Folder of .hdr panoramas to light with and to see behind the heads, or one "
            "packed; without it, rooms and skies are made up.",
        ),
    ] = None,
    clean: Annotated[
        bool, typer.Option("--clean", help="No occluders, blur, noise or compression (png).")
    ] = False,
    parts: Annotated[
        bool,
        typer.Option(
            "--parts",
            help="Also write part masks (png): 0 background, 1 + part of the head model, "
            "100 hair, 101 clothes, glasses and headphones.",
        ),
    ] = False,
    batch: Annotated[
        int | None,
        typer.Option(
            "--batch",
            min=1,
            max=128,
            help="Scenes rendered at once (shards); default 16, on a GPU 64, as memory allows.",
        ),
    ] = None,
    model: Model = None,
    seed: Seed = 0,
    threads: Annotated[
        int,
        typer.Option(
            "--threads",
            min=1,
            help="CPU threads. More than one hardly pays: rather run the command once a core, "
            "with different seeds.",
        ),
    ] = 1,
    device: Annotated[
        Literal["auto", "cpu", "cuda"], typer.Option("--device", help="Where to render.")
    ] = "auto",
) -> None:
    """Render people who do not exist, with all 703 landmarks known exactly.

    Writes OUT/000000.png ... and OUT/labels.npz: landmarks (N, 703, 2) in pixels (pixel centres at
    integers), depth in metres, visible, and each picture's camera, pose, identity and expression.
    The same seed gives the same pictures.
    """
    import torch

    from densefit.landmarks.jobs import resolve_device

    torch.set_num_threads(threads)
    chosen = resolve_device(device)
    if kind == "shards":
        from densefit.synth.render_shards import ShardOptions, render_shards

        shard = ShardOptions(
            count=count, seed=seed, size=size, environments=environments, device=chosen,
            model=model, batch=batch,
        )  # fmt: skip
        for path in render_shards(out, shard):
            typer.echo(path)
        return
    from densefit.synth.pictures import PictureOptions, write_pictures

    options = PictureOptions(
        count=count, size=size, seed=seed, environments=environments, augment=not clean,
        parts=parts, device=chosen, model=model,
    )  # fmt: skip
    typer.echo(write_pictures(out, options))
