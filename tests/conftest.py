"""Options of the whole suite."""

import gc

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write the golden files anew")


def pytest_configure() -> None:
    """The generated SDKs are hundreds of thousands of objects that live as long as the process: a full collection takes
    half a second and finds nothing."""
    gc.set_threshold(100_000, 50, 1_000)
