"""Tests of the emulators and fakes run with the integration tests: nothing of what they test is deployed."""

from pathlib import Path

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks the tests of this folder."""
    folder = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(folder) and item.get_closest_marker("e2e") is None:
            item.add_marker(pytest.mark.integration)
