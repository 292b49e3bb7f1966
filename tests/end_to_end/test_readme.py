"""The README's examples, run as they stand there."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
NOTEBOOK, ELSEWHERE, SPACE = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


@pytest.mark.slow
def test_the_example_from_python_runs(
    shared_ray: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found: dict[str, Any] = {}
    exec(compile(NOTEBOOK, "README.md", "exec"), found)
    results, model = found["results"], found["model"]
    assert len(results.trials) == 2
    assert len(model.class_names) == 10


def test_the_example_of_a_model_elsewhere_is_the_one_that_is_tested() -> None:
    import trainables.classifier

    lines = [line.strip() for line in ELSEWHERE.splitlines() if line.strip()]
    documented = [line.strip() for line in str(trainables.classifier.__doc__).splitlines()]
    assert [line for line in lines if line not in documented] == []


@pytest.mark.slow
def test_the_example_space_runs(shared_ray: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from search.run import run
    from search.settings import Settings

    (tmp_path / "small_space.py").write_text(SPACE, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    results = run(
        Settings(
            space="small_space",
            dataset="digits",
            trials=2,
            max_epochs=1,
            baselines=True,
            max_concurrent=1,
            cpus_per_trial=1,
            confirm=False,
        ),
        console=Console(file=io.StringIO()),
    )
    assert results.trials["baseline"].tolist().count("narrow") == 1
    assert results.best_model().class_names == tuple("0123456789")


def test_every_option_that_the_readme_names_exists() -> None:
    from search.settings import defaults

    named = set(re.findall(r"--([a-z][a-z-]+)", README.split("## Options")[1].split("## Your own space")[0]))
    known = {name.replace("_", "-") for name in defaults()} | {"config", "help", "resume"}
    assert {name.removeprefix("no-") for name in named} <= known


@pytest.mark.parametrize("command", ["search.run", "search.export", "search.evaluate", "search.predict"])
def test_help_reads_well_and_shows_defaults(command: str) -> None:
    shown = subprocess.run(
        [sys.executable, "-m", command, "--help"], capture_output=True, text=True, check=True
    ).stdout
    assert "default" in shown
    assert "Traceback" not in shown
