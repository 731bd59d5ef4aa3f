"""What every test shares: the worker's modules importable as they are in the image, and a home of its own."""

import os
import sys
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("any machine", deadline=None)  # an example takes as long as the machine lets it
settings.load_profile("any machine")
ROOT = Path(__file__).parents[1]
# Where `make image` put the packages and layers, before every test got a home of its own.
MADE_WITH = os.environ.get("EXECUTOR_HOME")
sys.path.insert(0, str(ROOT / "images"))


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test has a state directory of its own."""
    folder = tmp_path / "home"
    monkeypatch.setenv("EXECUTOR_HOME", str(folder))
    return folder
