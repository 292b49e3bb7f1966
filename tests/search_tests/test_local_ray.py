"""What Ray is told, whoever imports it first."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
IMPORTED_FIRST = """
import ray
from ray._private import services
from ray._private.worker import _maybe_modify_runtime_env

import search.local_ray

print(_maybe_modify_runtime_env({}, False), services.get_node_ip_address())
"""


def test_a_script_that_imports_ray_first_gets_workers_of_its_own_environment() -> None:
    """Or each worker's environment would be made anew by uv, from a copy of the whole folder: minutes."""
    uv = shutil.which("uv")
    if uv is None:
        pytest.skip("tries what `uv run` does, and there is no uv on PATH")
    done = subprocess.run(
        [uv, "run", "--no-sync", "python", "-c", IMPORTED_FIRST],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if not name.startswith("RAY_")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "{} 127.0.0.1\n", done.stderr
