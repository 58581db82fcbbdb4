"""OpenCV's FileStorage text (YAML, JSON or XML) as plain values.

Not read by OpenCV itself, whose parsers end the whole process on damaged files: exceptions that
nobody can catch, and stacks that overflow.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from calibration.errors import CalibrationError
from calibration.formats.common import read_text
from calibration.safe_yaml import MAX_BYTES, PlainLoader, parse_yaml

_MATRIX = "opencv-matrix"
_HEADER = re.compile(r"\A%YAML[^\n]*\n")
_WORD = re.compile(r'"(?:[^"\\]|\\.)*"|\S+')


def read_storage(path: Path) -> dict[str, Any]:
    """Numbers, texts, lists, and matrices as float64 arrays, by key; None for anything else.

    Raises:
        CalibrationError: one line that says what is wrong; without the file's name.
    """
    text = read_text(path, "a file of OpenCV")
    if len(text) > MAX_BYTES:
        raise CalibrationError("too large for a calibration of OpenCV; is it the right file?")
    if text.lstrip().startswith("<"):
        return _from_xml(text)
    # The header `%YAML:1.0` of older versions is no YAML.
    value = parse_yaml(_HEADER.sub("", text), _Loader)
    if not isinstance(value, dict):
        raise CalibrationError("not a FileStorage file of OpenCV, or empty; export it again")
    return {key: _plain(item) for key, item in value.items()}


class _Loader(PlainLoader):
    """Knows OpenCV's tags."""


def _construct_matrix(loader: _Loader, node: yaml.Node) -> Any:
    if not isinstance(node, yaml.MappingNode):
        raise CalibrationError(f"{_MATRIX} is no mapping; export it again")
    return _matrix(loader.construct_mapping(node))


_Loader.add_constructor(f"tag:yaml.org,2002:{_MATRIX}", _construct_matrix)
_Loader.add_multi_constructor("tag:yaml.org,2002:opencv-", lambda loader, suffix, node: None)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):  # in JSON a matrix is a mapping that says so
        return _matrix(value) if value.get("type_id") == _MATRIX else None
    return value


def _matrix(entry: dict[str, Any]) -> np.ndarray:
    """(rows, columns) float64, or (rows, columns, channels)."""
    try:
        rows, columns = int(entry["rows"]), int(entry["cols"])
        data = np.array([_number(item) for item in entry["data"]], dtype=np.float64)
        if rows < 1 or columns < 1 or data.ndim != 1 or data.size % (rows * columns):
            raise ValueError(f"{data.size} numbers for {rows} rows and {columns} columns")
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise CalibrationError(f"a matrix is damaged ({error}); export it again") from error
    shaped = data.reshape(rows, columns, -1)
    return shaped[..., 0] if shaped.shape[2] == 1 else shaped


def _number(item: Any) -> float:
    """OpenCV spells what is no number in its own way."""
    return float(re.sub(r"\.(?=Nan|Inf)", "", item) if isinstance(item, str) else item)


def _from_xml(text: str) -> dict[str, Any]:
    # Entities are of no use here, and can expand without end.
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise CalibrationError("holds a DOCTYPE, which OpenCV does not write; refused")
    try:
        root = ET.fromstring(text.encode("utf-8"))
    except (ET.ParseError, LookupError) as error:  # LookupError: an unknown encoding
        raise CalibrationError(f"not valid XML ({error}); export it again") from error
    return {element.tag: _element(element) for element in root}


def _element(element: ET.Element) -> Any:
    if element.get("type_id") == _MATRIX:
        entry = {child.tag: child.text or "" for child in element}
        return _matrix({**entry, "data": entry.get("data", "").split()})
    if element.get("type_id") is not None:
        return None
    if len(element):
        # A list of texts; a mapping has names where a list has underscores.
        named = any(child.tag != "_" or len(child) for child in element)
        return None if named else [_word((child.text or "").strip()) for child in element]
    words = _WORD.findall(element.text or "")
    return _word(words[0]) if len(words) == 1 else [_word(word) for word in words]


def _word(text: str) -> int | float | str:
    """A number, or a text less its quotes."""
    if text.startswith('"'):
        return text.strip('"')
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
