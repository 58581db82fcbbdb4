"""`densefit evaluate`: measurements by published protocols."""

from __future__ import annotations

from densefit.cli import protocols

HELP = "Measure models and results by published protocols."

COMMANDS = {**protocols.COMMANDS}
