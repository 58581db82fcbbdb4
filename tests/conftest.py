"""Options of the whole test suite."""

import pytest


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
