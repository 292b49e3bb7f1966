from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]


@pytest.fixture
def config() -> dict[str, Any]:
    """The document of cluster.yaml, each test's own."""
    return yaml.safe_load((ROOT / "cluster.yaml").read_text(encoding="utf-8"))
