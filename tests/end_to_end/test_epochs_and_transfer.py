"""Budgets other than time, and a search that begins with what another one learnt."""

from __future__ import annotations

from pathlib import Path

import pytest

from search.results import Results
from search.run import main

OPTIONS = [
    "--dataset=digits",
    "--max-epochs=3",
    "--no-confirm",
    "--device=cpu",
    "--max-params=300000",
    "--quiet",
]


def epochs_of(folder: Path) -> int:
    return int(Results(folder).trials["epochs"].sum())


@pytest.mark.slow
def test_epochs_end_a_search_and_what_it_learnt_begins_another(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = tmp_path / "first"
    words = [*OPTIONS, "--max-concurrent=2", "--cpus-per-trial=1", f"--storage={tmp_path}"]
    assert main([*words, "--name=first", "--total-epochs=3"]) == 0
    assert Results(first).stopped == "epoch budget"
    assert 3 <= epochs_of(first) <= 4, "one more only if both slots end an epoch at once"
    assert f"--resume {first}" in capsys.readouterr().out

    assert main(["--resume", str(first)]) == 0
    assert "the epoch budget is used up" in capsys.readouterr().out
    assert main(["--resume", str(first), "--total-epochs=5"]) == 0
    assert 5 <= epochs_of(first) <= 6

    assert main([*words, "--name=second", f"--start-from={first}", "--total-epochs=1"]) == 0
    second = Results(tmp_path / "second")
    imported = [t for t in second.study.trials if "imported" in t.user_attrs]
    assert len(imported) == len(Results(first).trials.dropna(subset="score"))
    own = second.study.trials[len(imported)]
    best = Results(first).best
    assert own.user_attrs["baseline"] == f"first/{best['trial']}"
    assert own.params == best["config"]
    assert set(second.trials["trial"]) >= {own.number}
    assert not set(second.trials["trial"]) & set(range(len(imported)))
