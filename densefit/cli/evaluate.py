"""`densefit evaluate`: measurements by published protocols."""

from __future__ import annotations

from densefit.cli import model_scores, protocols

HELP = "Measure models and results by published protocols."

COMMANDS = {**model_scores.COMMANDS, **protocols.COMMANDS}
