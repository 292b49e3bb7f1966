"""A search on CIFAR-10 as image files, where a copy lies beside the project."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from search.results import Results


@pytest.mark.slow
def test_a_baseline_learns_from_real_images(tmp_path: Path, cifar10_images: Path) -> None:
    command = [sys.executable, "-m", "search.run", "--dataset", str(cifar10_images), "--baselines"]
    options = [
        "--trials",
        "2",
        "--max-epochs",
        "1",
        "--no-confirm",
        "--name",
        "real",
        "--storage",
        str(tmp_path),
    ]
    ended = subprocess.run(command + options, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "45,000 training and 5,000 validation images, 10 classes, 32 px" in ended.stdout
    results = Results(tmp_path / "real")
    assert set(results.trials["baseline"]) == {"plain", "plain_bn"}
    assert results.best["score"] > 0.45, "one epoch of a plain network on 45,000 images"
    assert "airplane" in results.best_model().class_names
