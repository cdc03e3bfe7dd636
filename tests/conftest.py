"""Options of the whole suite."""

import gc

import pytest
from hypothesis import settings

# Before conftest files of folders load the generated SDKs: full collections of hundreds of thousands of objects that
# live as long as the process find nothing.
gc.set_threshold(100_000, 50, 1_000)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="rewrite the golden files")


def pytest_configure() -> None:
    """Keeps the suite quick: what needs more examples than these asks for them itself."""
    settings.register_profile("suite", max_examples=25, deadline=None)
    settings.load_profile("suite")


def pytest_unconfigure() -> None:
    """Spares Python the collections at its end."""
    gc.freeze()
