"""The typer application: which commands there are. Each has its own module, light to import."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from typing import Annotated

import typer
import typer.core

from densefit import __version__
from densefit.cli.flags import as_command
from densefit.errors import UsageError

INTERRUPTED = 130  # what typer makes of Ctrl-C

# command -> (module, function)
COMMANDS = {
    "inspect": ("densefit.cli.inspect", "inspect"),
    "predict": ("densefit.cli.predict", "predict"),
    "fit-rig": ("densefit.cli.fit_rig", "fit_rig"),
    "export": ("densefit.cli.export", "export"),
    "batch": ("densefit.cli.batch", "batch"),
    "doctor": ("densefit.cli.doctor", "doctor"),
    "demo": ("densefit.cli.demo", "demo"),
    "synth": ("densefit.cli.synth", "synth"),
    "train": ("densefit.cli.train", "train"),
}

# group -> module with HELP and COMMANDS: name -> function, and GROUP where it parses its own way
GROUPS = {
    "calibrate": "densefit.cli.calibrate",
    "rig": "densefit.cli.rig",
    "model": "densefit.cli.model",
    "evaluate": "densefit.cli.evaluate",
}

# Shown below the options of each command's --help.
EXAMPLES = {
    "": "densefit fit-rig phone.mp4 -o out/",
    "model": "densefit model import ict ICT-FaceKit/ -o ict.npz",
    "evaluate": "densefit evaluate now now_dataset/ -p meshes/",
    "rig": "densefit rig check rig.yaml take.yaml",
    "model import": "densefit model import ict ICT-FaceKit/ -o ict.npz",
    "evaluate model": "densefit evaluate model --heads heads/ --ict ICT-FaceKit/",
    "evaluate now": "densefit evaluate now now_dataset/ -p meshes/ --metrical --unit m",
    "evaluate micc": "densefit evaluate micc florence/ -p meshes/",
    "evaluate 300w": "densefit evaluate 300w 300w/ --json 300w.json",
    "inspect": "densefit inspect take.yaml",
    "predict": "densefit predict take.yaml -o out/ --overlay",
    "fit-rig": "densefit fit-rig take.yaml -o out/",
    "export": "densefit export out/ -f glb -f arkit-csv --frames 0:120",
    "batch": "densefit batch takes/*/take.yaml -o results/ --jobs 4",
    "doctor": "densefit doctor --json",
    "demo": "densefit demo -o demo/",
    "synth": "densefit synth -n 24 -o faces/",
    "train": "densefit train --data shards/ -o run/ --task landmarks",
    "calibrate": "densefit calibrate *.mp4 --board chessboard:9x6:25mm -o rig.yaml",
    "calibrate recordings": "densefit calibrate recordings *.mp4 --board chessboard:9x6:25mm "
    "-o rig.yaml",
    "calibrate board": "densefit calibrate board charuco:5x7:35mm:26mm:DICT_4X4_50 -o board.pdf",
    "rig check": "densefit rig check rig.yaml take.yaml",
    "rig convert": "densefit rig convert camera_array.toml my_rig/ --take recordings/",
}


def example(command: str) -> str | None:
    """The line for a command's --help."""
    return f"Example: {EXAMPLES[command]}" if command in EXAMPLES else None


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"densefit {__version__}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """Turn video from one camera or a synchronized rig into an animated 3D head."""


def build_app() -> typer.Typer:
    """Register every command. Only typer is imported by the command modules at this point."""
    app = typer.Typer(
        name="densefit",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        epilog=example(""),
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_root)
    for name, (path, function) in COMMANDS.items():
        work = getattr(importlib.import_module(path), function)
        app.command(name, epilog=example(name))(as_command(work, name))
    for group, path in GROUPS.items():
        module = importlib.import_module(path)
        parser = getattr(module, "GROUP", typer.core.TyperGroup)
        commands = typer.Typer(
            cls=parser, no_args_is_help=True, help=module.HELP, epilog=example(group)
        )
        for name, function in module.COMMANDS.items():
            full = f"{group} {name}"
            commands.command(name, epilog=example(full))(as_command(function, full))
        app.add_typer(commands, name=group)
    return app


def run(arguments: Sequence[str] | None = None) -> int:
    """Parse and run; usage errors are printed here, all other errors go to `densefit.cli.main`."""
    if "" in (sys.argv[1:] if arguments is None else arguments):
        # As a path it would be the current folder.
        raise UsageError("an argument is empty; is a variable of the shell not set?")
    try:
        code = build_app()(
            args=None if arguments is None else list(arguments),
            prog_name="densefit",
            standalone_mode=False,
        )
    except typer.TyperException as error:
        # The parser's own errors know how to show themselves with the usage line of their command.
        error.show()  # type: ignore[attr-defined]
        return error.exit_code
    except typer.Abort as error:
        raise KeyboardInterrupt from error
    except SystemExit as error:
        # That is what typer makes of a reader who went away.
        if isinstance(error.__context__, BrokenPipeError):
            raise error.__context__ from None
        raise
    if code == INTERRUPTED:
        raise KeyboardInterrupt
    return code if isinstance(code, int) else 0
