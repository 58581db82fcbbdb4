"""The command line: parses, calls one stage, prints, and picks the exit code.

Exit codes: 0 ok; 1 our own fault (a log file is named); 2 usage; 3 bad input or missing optional
package; 4 quality gate failed; 5 part of a batch failed; 130 interrupted; 143 terminated.
"""

from __future__ import annotations

import atexit
import errno
import gc
import os
import re
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

from densefit.errors import Terminated

EXIT_OK = 0
EXIT_FAULT = 1
EXIT_USAGE = 2
EXIT_INPUT = 3
EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143

RESUMING = ("predict", "fit-rig", "batch")
"""Commands that go on with what an interrupted run has finished, unless told to overwrite it."""
MAX_MESSAGE = 1000
"""Characters of an error message; a longer one loses its middle."""

# What the machine, not densefit, says no to: reported in one line as bad input.
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_ENVIRONMENT_ERRNOS = _FULL | {
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.EISDIR,
    errno.ENOTDIR,
    errno.EIO,
    errno.ESTALE,
    errno.ENOTCONN,
    errno.ENAMETOOLONG,
}


def wait_asleep() -> None:
    """Torch's threads wait for one another asleep, but for some microseconds, unless the user says
    otherwise; to be called before torch is imported.

    They spin for milliseconds by default. Beside two other busy programs on two cores that made
    `predict` twice and `fit-rig` up to four times as slow; on an idle machine it gains a twentieth,
    of long fits up to a third (GOMP_SPINCOUNT=20000 gives that back).
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code. Every error of every command ends here."""
    from densefit import progress

    _collect_rarely()
    # What its decoders think of damaged pictures is said once, in our own words.
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    wait_asleep()
    started = time.monotonic()
    code = _run(arguments)
    progress.event(
        "end", exit_code=code, seconds=round(time.monotonic() - started, 3), peak_mb=_peak_mb()
    )
    progress.close()
    return code


def _collect_rarely() -> None:
    """Look for cyclic garbage every now and then only, and at the end not at all.

    Importing torch makes half a million objects that stay; going through them again and again, and
    once more on the way out, takes half a second of every command.
    """
    gc.set_threshold(100_000, 20, 100)
    atexit.unregister(gc.freeze)
    atexit.register(gc.freeze)


def _run(arguments: Sequence[str] | None) -> int:
    try:
        from densefit.cli.app import run

        return run(arguments)
    except KeyboardInterrupt:
        from densefit import progress

        progress.warn(f"interrupted; {_how_to_continue(arguments)}")
        return EXIT_INTERRUPTED
    except Terminated:
        return EXIT_TERMINATED
    except BrokenPipeError:
        # The reader of our output went away (`densefit ... | head`); without this the interpreter
        # complains again when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_OK
    except Exception as error:
        return _report(error)


def _how_to_continue(arguments: Sequence[str] | None) -> str:
    """What is left of an interrupted command, and what goes on with it."""
    given = sys.argv[1:] if arguments is None else arguments
    afresh = "--overwrite" in given and given[0] in RESUMING
    without = " without --overwrite" if afresh else ""
    return f"what is finished is kept, the same command{without} continues"


def _peak_mb() -> int | None:
    """The most memory that the process has held, MB; None where the system does not tell."""
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak // (1024 if sys.platform != "darwin" else 1024**2)


def _report(error: Exception) -> int:
    """Print the error for a person and choose the exit code."""
    from densefit.errors import DensefitError

    if isinstance(error, DensefitError):
        return _fail(str(error), error.exit_code)
    # `calibration` knows nothing of densefit, so its error carries no exit code. The module is only
    # looked up: if it was never imported, the error cannot be its own.
    calibration = sys.modules.get("calibration.errors")
    if calibration is not None and isinstance(error, calibration.CalibrationError):
        return _fail(str(error), EXIT_INPUT)
    if isinstance(error, OSError) and error.errno in _ENVIRONMENT_ERRNOS:
        where = error.filename or "output"
        remedy = "choose another place"
        if error.errno in _FULL:
            remedy = f"free space or {remedy}"
        return _fail(f"{where}: {error.strerror}; {remedy}", EXIT_INPUT)
    if isinstance(error, ModuleNotFoundError) and not _is_ours(error.name):
        remedy = f"pip install {error.name}"
        return _fail(f"the package '{error.name}' is not installed; {remedy}", EXIT_INPUT)
    return _fail(
        f"unexpected {type(error).__name__}: {error}\n"
        f"this is a fault of densefit; please report it with {_write_log(error)}",
        EXIT_FAULT,
    )


def _fail(message: str, code: int) -> int:
    from densefit import progress

    progress.error(_shown(message))
    return code


def _shown(message: str) -> str:
    """What damaged files put into a message: neither pages of it, nor orders to the terminal."""
    text = re.sub(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", lambda m: repr(m[0])[1:-1], message)
    if len(text) <= MAX_MESSAGE:
        return text
    half = MAX_MESSAGE // 2
    return f"{text[:half]} ... {text[-half:]}"


def _is_ours(module: str | None) -> bool:
    return (module or "densefit").split(".")[0] in ("densefit", "calibration")


def _write_log(error: Exception) -> Path:
    """Write traceback, command and versions to a file in the temporary folder; return its path."""
    from densefit import __version__

    name = f"densefit-error-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.log"
    path = Path(tempfile.gettempdir()) / name
    lines = [
        f"densefit {__version__}, python {sys.version}",
        f"arguments: {sys.argv[1:]}",
        f"folder: {Path.cwd()}",
        "",
        *traceback.format_exception(error),
    ]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path
