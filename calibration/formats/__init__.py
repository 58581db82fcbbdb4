"""Rigs of other tools: one module a family of formats, one registry for all of them.

docs/rig_formats.md has the table of units, directions and pixel centres.
"""

from calibration.formats.common import ReadOptions, parse_names, parse_size, parse_units
from calibration.formats.registry import FORMATS, format_of, read_any, write_any

__all__ = [
    "FORMATS",
    "ReadOptions",
    "format_of",
    "parse_names",
    "parse_size",
    "parse_units",
    "read_any",
    "write_any",
]
