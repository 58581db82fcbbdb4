"""Options and fixtures of the whole test suite."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from recordings import MakeVideo, encode_video

from densefit.cli import wait_asleep

# As the program does, before torch is imported: a busy machine made single tests take minutes.
wait_asleep()
# Jobs in the background of a shell ignore Ctrl-C, and so would the programs under test.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--stress", action="store_true", help="also run the slow stress tests")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "stress: slow and rough; runs with --stress only")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--stress"):
        return
    skip = pytest.mark.skip(reason="runs with --stress (make stress)")
    for item in items:
        if "stress" in item.keywords:
            item.add_marker(skip)


@pytest.fixture
def make_video(tmp_path: Path) -> MakeVideo:
    """make_video(name, n=..., fps=..., codec=..., ...) -> path of a new, real video."""

    def make(name: str = "left.mp4", **options: object) -> Path:
        return encode_video(tmp_path / name, **options)  # type: ignore[arg-type]

    return make
