"""What does each ingredient of the multi-fidelity sampler earn? Regret with one left out, side by side.

    python -m benchmarks.ablation --seeds 8 --processes 2

Curves, budgets and regret are those of `benchmarks.search_quality`.
"""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from itertools import product
from typing import Any
from unittest import mock

import pandas as pd

from benchmarks.cases import Case, Row, column
from benchmarks.curve_families import FAMILIES
from benchmarks.regret import SHOWN
from benchmarks.search_quality import measure

OURS = "multifidelity, promote"
REFERENCES = ("random, promote", "random, stop")
VARIANTS: dict[str, Mapping[str, Any]] = {
    "as it is": {},
    "every trial judged from the lowest rung": {
        "search.multifidelity.MultifidelitySampler.starting_rung": lambda self, study, number, levels: min(
            levels
        )
    },
    "every rung trusted": {"search.multifidelity.trust": lambda values, step, enough: 1.0},
    "also a model of noise": {"search.multifidelity.EVIDENCE": -math.inf},
    "model of the highest step only": {"search.multifidelity.LOWER": 0.0},
    "a model from 10 values": {"search.multifidelity.ENOUGH": 10},
}
"""What replaces what, by full name."""


def _one(case: tuple[str, str, int, int]) -> Row:
    family, name, workers, seed = case
    with ExitStack() as stack:
        for target, replacement in VARIANTS.get(name, {}).items():
            stack.enter_context(mock.patch(target, replacement))
        result = measure(Case(workers, family, name if name in REFERENCES else OURS, seed))
    return {**result, "search": name}


def run(families: list[str], names: list[str], workers: int, seeds: range, processes: int) -> pd.DataFrame:
    """Every case, a row each: the references and the variants."""
    cases = list(product(families, [*REFERENCES, *names], [workers], seeds))
    if processes == 1:
        return pd.DataFrame([_one(case) for case in cases])
    with ProcessPoolExecutor(processes) as pool:
        return pd.DataFrame(list(pool.map(_one, cases, chunksize=2)))


def table(results: pd.DataFrame) -> str:
    """Mean regret over families and seeds by share of the budget, the mean of each family at the end, and
    the family in which a variant does worst beside each reference: the difference and its 95 % interval.
    """
    shares = [column(share) for share in SHOWN]
    shown = results.groupby("search", sort=False)[shares].mean().round(3)
    last = results.pivot_table(index=["task", "seed"], columns="search", values=shares[-1], sort=False)
    for reference in REFERENCES:
        less = last.sub(last[reference], axis=0).groupby("task", sort=False)
        mean, interval = less.mean(), 1.96 * less.sem()
        worst = {str(name): str(mean[name].idxmax()) for name in mean}
        shown[f"worst less {reference}"] = [
            f"{mean[name].max():+.3f} ±{interval[name][worst[name]]:.3f} {worst[name]}"
            for name in map(str, shown.index)
        ]
    families = last.groupby("task", sort=False).mean().T.reindex(shown.index).round(3)
    return f"{shown.to_string()}\n\nat the end, by family\n{families.to_string()}"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--first-seed", type=int, default=0, help="tune on some seeds, check on others")
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--families", default=",".join(FAMILIES), help="of: " + ", ".join(FAMILIES))
    parser.add_argument("--variants", default=";".join(VARIANTS), help="of: " + "; ".join(VARIANTS))
    parser.add_argument("--processes", type=int, default=1, help="cases side by side")
    parser.add_argument("--out", help="also write every case to this CSV file")
    options = parser.parse_args()
    # a model of 150 points is slower on several threads than on one
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    families, variants = options.families.split(","), options.variants.split(";")
    results = run(families, variants, options.workers, seeds, options.processes)
    if options.out:
        results.to_csv(options.out, index=False)
    print(table(results))


if __name__ == "__main__":
    main()
