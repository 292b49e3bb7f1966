"""How good is a search? Regret over time of this project's search and of what one would use instead.

    python -m benchmarks.search_quality --quick                                  4 workers, 2 seeds
    python -m benchmarks.search_quality --workers 1,4,16,64 --seeds 20 --out quality.csv
    python -m benchmarks.search_quality --read quality.csv                       the tables once more

Every competitor has the same space, curves, workers, budget and seeds. Normalized regret: 0 is the best
final score of 2,000 random configurations (or of all recorded), 1 their median. Of what has been trained
until then the epoch that looked best is judged by its true score.
"""

from __future__ import annotations

import argparse
import csv
import os
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path

import optuna
import pandas as pd

from benchmarks import competitors, quality_tables, virtual_time
from benchmarks.cases import TRAININGS, TRAININGS_A_WORKER, Case, Row, judged
from benchmarks.curve_families import MAX_EPOCHS
from benchmarks.tasks import TASKS
from search.controller import Rule
from search.simulate import simulate

SYNE_TUNE = Path(__file__).parent / "syne_tune.csv"
"""Recorded by `benchmarks.syne_tune`."""


@dataclass(frozen=True)
class Ours:
    """A sampler and a rule, as `search.simulate` takes them."""

    sampler: str
    asha: Rule


OURS = {
    "random": Ours("random", "none"),
    "random, stop": Ours("random", "stop"),
    "random, promote": Ours("random", "promote"),
    "tpe, promote": Ours("tpe", "promote"),
    "multifidelity, promote": Ours("multifidelity", "promote"),
}
SEARCHES = (*list(OURS)[:3], *competitors.OUTSIDE, *list(OURS)[3:])


def measure(case: Case) -> Row:
    """One search, simulated and judged."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    search = _ready(case)
    began = time.process_time()
    rows = search()
    return judged(case, rows, time.process_time() - began)


def _ready(case: Case) -> Callable[[], pd.DataFrame]:
    """A search that only has to be started: what it needs is imported."""
    task, seconds = case.make_task(), case.budget()
    if case.search in competitors.OUTSIDE:
        search = competitors.OUTSIDE[case.search](task.suggest, MAX_EPOCHS, case.seed)
        return partial(
            virtual_time.run, search, task.curve, workers=case.workers, max_epochs=MAX_EPOCHS, seconds=seconds
        )
    ours = OURS[case.search]
    return partial(
        simulate,
        task.suggest,
        task.curve,
        workers=case.workers,
        max_epochs=MAX_EPOCHS,
        seconds=seconds,
        sampler=ours.sampler,
        asha=ours.asha,
        seed=case.seed,
    )


def run(cases: list[Case], processes: int) -> Iterator[Row]:
    """What `measure` says of each case, in their order."""
    if processes == 1:
        yield from map(measure, cases)
        return
    with ProcessPoolExecutor(processes) as pool:
        yield from pool.map(measure, cases)


def settings() -> str:
    """Every competitor's settings, a line each."""
    lines = {
        name: f"search.simulate: sampler {ours.sampler}, asha {ours.asha}; rungs 1, 3, 9, 27"
        for name, ours in OURS.items()
    }
    lines |= {name: make.settings for name, make in competitors.OUTSIDE.items()}
    if SYNE_TUNE.exists():
        lines |= competitors.RECORDED
    rows = "\n".join(
        textwrap.fill(f"  {name:24}{text}", 110, subsequent_indent=" " * 26) for name, text in lines.items()
    )
    return (
        f"budget: {TRAININGS} full trainings of the median configuration, and at least"
        f" {TRAININGS_A_WORKER:g} a worker; up to {MAX_EPOCHS} epochs a trial\n{rows}"
    )


def _with_recorded(results: pd.DataFrame) -> pd.DataFrame:
    """The results, and what was recorded elsewhere for the same tasks, workers and seeds."""
    if not SYNE_TUNE.exists():
        return results
    recorded = pd.read_csv(SYNE_TUNE)
    same = pd.MultiIndex.from_frame(recorded[["workers", "task", "seed"]]).isin(
        pd.MultiIndex.from_frame(results[["workers", "task", "seed"]])
    )
    return pd.concat([results, recorded[same]], ignore_index=True)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--workers", default="4", help="numbers of workers, such as 1,4,16,64")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--families", default=",".join(TASKS), help="of: " + ", ".join(TASKS))
    parser.add_argument("--searches", default=";".join(SEARCHES), help="of: " + "; ".join(SEARCHES))
    parser.add_argument("--processes", type=int, default=2, help="cases side by side")
    parser.add_argument("--quick", action="store_true", help="2 seeds")
    parser.add_argument("--out", type=Path, help="also write every case to this CSV file, as they come")
    parser.add_argument("--read", type=Path, help="simulate nothing: tables of such a file")
    options = parser.parse_args()
    # a model of 150 points is slower on several threads than on one
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    if options.read:
        results = pd.read_csv(options.read)
    else:
        cases = [
            Case(workers, task, search, seed)
            for workers, task, seed, search in product(
                map(int, options.workers.split(",")),
                options.families.split(","),
                range(2 if options.quick else options.seeds),
                options.searches.split(";"),
            )
        ]
        results = _simulated(cases, options.processes, options.out)
    print(settings(), end="\n\n")
    print(quality_tables.tables(_with_recorded(results)))


def _simulated(cases: list[Case], processes: int, out: Path | None) -> pd.DataFrame:
    rows: list[Row] = []
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
    with (out or Path(os.devnull)).open("w", newline="") as file:
        for row in run(cases, processes):
            writer = csv.DictWriter(file, row.keys())
            if not rows:
                writer.writeheader()
            writer.writerow(row)
            file.flush()
            rows.append(row)
            print(f"\r{len(rows)} of {len(cases)} searches", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return pd.DataFrame(rows)


if __name__ == "__main__":
    main()
