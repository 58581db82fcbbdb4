"""TOML with one-line errors."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from calibration.errors import CalibrationError


def load_toml(path: str | Path, what: str) -> dict[str, Any]:
    """Read a TOML file; `what` it should be, for messages.

    Raises:
        CalibrationError: one line that names the file: missing, unreadable or not TOML.
    """
    path = Path(path)
    try:
        with path.open("rb") as stream:
            return tomllib.load(stream)
    except FileNotFoundError as error:
        raise CalibrationError(f"{path}: no such file; expected a {what}") from error
    except OSError as error:
        raise CalibrationError(
            f"{path}: cannot be read ({error.strerror}); check its rights"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CalibrationError(f"{path}: not valid TOML ({error}); mend it") from error
