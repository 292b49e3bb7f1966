"""The ablation of the sampler: a variant changes the search, and the table says where it is worst."""

from __future__ import annotations

from itertools import product

import pandas as pd
import pytest

from benchmarks import ablation, cases
from benchmarks.ablation import VARIANTS, run, table
from benchmarks.regret import SHARES


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cases, "TRAININGS", 1)
    monkeypatch.setattr(cases, "TRAININGS_A_WORKER", 0)
    monkeypatch.setattr(ablation, "REFERENCES", ())


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_replaces_what_there_is(name: str) -> None:
    assert len(run(["plain"], [name], workers=1, seeds=range(1), processes=1)) == 1


@pytest.mark.usefixtures("tiny")
def test_a_variant_changes_the_search_and_is_undone_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cases, "TRAININGS", 8)
    monkeypatch.setitem(VARIANTS, "random", {"search.multifidelity.ENOUGH": 10**6})
    results = run(["plain"], ["as it is", "random", "as it is"], workers=1, seeds=range(1), processes=1)
    regret = results[cases.column(1.0)].tolist()
    assert regret[0] == regret[2] != regret[1]


def test_the_table_names_the_family_in_which_a_variant_is_worst() -> None:
    searches = product(["plain", "noisy"], ["random, promote", "random, stop", "as it is"], range(3))
    shares = [cases.column(share) for share in SHARES]
    rows = [
        {"task": family, "search": search, "seed": seed}
        | dict.fromkeys(shares, 0.6 if (family, search) == ("noisy", "as it is") else 0.5)
        for family, search, seed in searches
    ]
    line = next(line for line in table(pd.DataFrame(rows)).splitlines() if line.startswith("as it is"))
    assert line.count("+0.100 ±0.000 noisy") == 2
