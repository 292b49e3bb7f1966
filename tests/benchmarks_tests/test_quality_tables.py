import pandas as pd

from benchmarks import quality_tables
from benchmarks.cases import column
from benchmarks.regret import SHARES


def results(*finals, workers=4, task="conditional"):
    """Searches by name and final regret for each of three seeds; regret falls there from 1 with time."""
    return pd.DataFrame(
        {
            "workers": workers,
            "task": task,
            "search": name,
            "seed": seed,
            "trials": 100,
            "ms": 1.5,
            **{column(share): 1 - share * (1 - final) for share in SHARES},
        }
        for name, regrets in finals
        for seed, final in enumerate(regrets)
    )


FINALS = (
    ("random", (0.5, 0.6, 0.7)),
    ("random, stop", (0.30, 0.20, 0.10)),
    ("random, promote", (0.25, 0.15, 0.05)),
    ("stock ray", (0.40, 0.31, 0.19)),
    ("multifidelity, promote", (0.11, 0.00, -0.10)),
)


def lines_of(text, name):
    return [line for line in text.split("\n") if line[:22].strip() == name]


def test_tables_fit_in_110_columns():
    text = quality_tables.tables(pd.concat([results(*FINALS), results(*FINALS, workers=64)]))
    assert max(len(line) for line in text.split("\n")) <= 110


def test_difference_wholly_on_the_wrong_side_is_marked():
    text = quality_tables.tables(results(*FINALS))
    assert "+0.100±0.025!" in lines_of(text, "stock ray")[0]
    assert "-0.197±0.014 " in lines_of(text, "multifidelity, promote")[0]


def test_cells_on_the_wrong_side_are_counted():
    text = quality_tables.tables(pd.concat([results(*FINALS), results(*FINALS, task="plain")]))
    assert "stock ray               2 of 2 less stop, 2 of 2 less prom" in text
    assert "multifidelity, promote  0 of 2 less stop, 0 of 2 less prom" in text


def test_there_is_a_mean_for_each_number_of_workers_and_one_of_all():
    text = quality_tables.tables(pd.concat([results(*FINALS), results(*FINALS, workers=64)]))
    assert text.count("\nstock ray ") == 2 + 2 + 1 + 1  # the last one counts cells


def test_search_with_fewer_seeds_is_compared_on_those_it_has():
    few = results(("hypertune", (0.40,)))
    text = quality_tables.tables(pd.concat([results(*FINALS), few]))
    assert "+0.100" in lines_of(text, "hypertune (1 seeds)")[0]
