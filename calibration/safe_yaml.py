"""YAML for files that strangers hand around: plain data only, no aliases, no duplicate keys."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from calibration.errors import CalibrationError

MAX_BYTES = 4_000_000
MAX_DEPTH = 20


class _Refused(yaml.YAMLError):
    """Something that YAML allows and these files do not."""


class PlainLoader(yaml.SafeLoader):
    """SafeLoader less what makes small files dangerous or surprising.

    Aliases are refused (an alias bomb expands to gigabytes), nesting is limited, duplicate keys are
    errors, and keys stay text as written (YAML 1.1 reads a camera named `no` as false).
    """

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()
            raise _Refused(
                f"alias on line {event.start_mark.line + 1}; write the value out instead"
            )
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise _Refused(f"nested more than {MAX_DEPTH} deep; is it the right file?")
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[str, Any]:
        mapping: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                raise _Refused(f"a key on line {line} is not plain text; write a name")
            if key_node.value in mapping:
                raise _Refused(f"'{key_node.value}' appears twice (line {line}); keep one")
            mapping[key_node.value] = self.construct_object(value_node, deep=True)
        return mapping


def _construct_map(loader: PlainLoader, node: Any) -> dict[str, Any]:
    return loader.construct_mapping(node, deep=True)


PlainLoader.add_constructor("tag:yaml.org,2002:map", _construct_map)
# YAML 1.1 reads 1e-5 (no dot) as text, but every program writes numbers like that.
PlainLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?[0-9]+[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)


def load_yaml(path: str | Path, what: str) -> dict[str, Any]:
    """Read a YAML mapping.

    Args:
        path: the file.
        what: what it should be, for messages ("rig file").
    Raises:
        CalibrationError: one line that names the file: missing, unreadable or not a YAML mapping.
    """
    path = Path(path)
    try:
        if path.is_dir():
            raise CalibrationError(f"{path}: cannot be read (a folder, no file); give a {what}")
        if path.stat().st_size > MAX_BYTES:
            raise CalibrationError(f"{path}: too large for a {what}; is it the right file?")
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise CalibrationError(f"{path}: no such file; expected a {what} there") from error
    except UnicodeDecodeError as error:
        raise CalibrationError(f"{path}: not a text file; expected a {what}") from error
    except OSError as error:
        raise CalibrationError(
            f"{path}: cannot be read ({error.strerror}); check its rights"
        ) from error
    try:
        value = parse_yaml(text)
    except CalibrationError as error:
        raise CalibrationError(f"{path}: {error}") from error
    if not isinstance(value, dict):
        raise CalibrationError(f"{path}: empty or not a mapping of keys; give a {what}")
    return value


def parse_yaml(text: str, loader: type[PlainLoader] = PlainLoader) -> Any:
    """Any YAML value. CalibrationError, without a file's name, where it is none or is refused."""
    try:
        return yaml.load(text, Loader=loader)
    except CalibrationError:  # a constructor's own
        raise
    except _Refused as error:
        raise CalibrationError(str(error)) from error
    except yaml.YAMLError as error:
        raise CalibrationError(f"not valid YAML ({_one_line(error)}); mend it") from error
    except (ValueError, RecursionError) as error:
        raise CalibrationError(f"not valid YAML ({error}); mend it") from error


def _one_line(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error).splitlines()[0]
    return f"{problem}, line {mark.line + 1}" if mark is not None else str(problem)


class _RowDumper(yaml.SafeDumper):
    """Writes innermost lists on one line, never writes aliases."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _represent_list(dumper: _RowDumper, items: list[Any]) -> Any:
    nested = any(isinstance(item, list | dict) for item in items)
    return dumper.represent_sequence("tag:yaml.org,2002:seq", items, flow_style=not nested)


_RowDumper.add_representer(list, _represent_list)


def dump_yaml(value: dict[str, Any]) -> str:
    """The mapping as YAML text in its own order; rows of numbers on one line each."""
    return yaml.dump(
        value,
        Dumper=_RowDumper,
        sort_keys=False,
        default_flow_style=False,
        width=200,
        allow_unicode=True,
    )
