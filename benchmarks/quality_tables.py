"""The tables of `benchmarks.search_quality`, 110 columns wide."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.cases import column
from benchmarks.regret import SHARES, SHOWN, speedup

Floats = NDArray[np.float64]

ANSWERS = {"x rnd": "random", "x ray": "stock ray", "x prom": "random, promote"}
"""Columns of speed-ups, and over whom."""
BASES = {"less stop": "random, stop", "less prom": "random, promote"}
"""Columns of paired differences at the end of the budget, and to whom."""
EXPLANATION = """\
1/16 ... 1     normalized regret at this share of the budget, mean over seeds
x rnd          how many times sooner it is where `random` is at the end; where it never gets there, at most
               this much (`benchmarks.regret.speedup`); likewise `stock ray` and `random, promote`
less stop      regret at the end less that of `random, stop`, paired over seeds, with the 95 % interval (below
               0 is better, ! marks what is wholly on the wrong side); likewise `random, promote`
trials, ms     configurations begun, and the search's own CPU milliseconds for each"""

GRID = [column(share) for share in SHARES]


def tables(results: pd.DataFrame) -> str:
    """One for each number of workers and task, one of means for each number of workers, one of all."""
    cells = pd.DataFrame(
        [
            {"workers": workers, "task": task, **row}
            for (workers, task), cell in results.groupby(["workers", "task"], sort=False)
            for row in _cell(cell)
        ]
    )
    blocks = [
        f"{workers} workers, {task}, {cell['seeds'].max()} seeds\n{_text(cell)}"
        for (workers, task), cell in cells.groupby(["workers", "task"], sort=False)
    ]
    several = cells["workers"].nunique() > 1
    blocks += [
        f"{workers} workers, mean over tasks (speed-ups: geometric)\n{_text(_means(cell))}"
        for workers, cell in cells.groupby("workers", sort=False)
    ]
    if several:
        blocks.append(f"mean over all cells (speed-ups: geometric)\n{_text(_means(cells))}")
    return "\n\n".join([EXPLANATION, *blocks, _wrong_side(cells)])


def _wrong_side(cells: pd.DataFrame) -> str:
    """In how many cells each search is worse, the interval wholly on the wrong side."""
    lines = ["cells that are wholly on the wrong side"]
    for name, rows in cells.groupby("search", sort=False):
        counts = [f"{(rows[title] > rows[f'{title} ±']).sum()} of {len(rows)} {title}" for title in BASES]
        lines.append(f"{name:24}{', '.join(counts)}")
    return "\n".join(lines)


def _cell(cell: pd.DataFrame) -> list[dict[str, object]]:
    """One row a search."""
    by_search = {str(name): rows.set_index("seed") for name, rows in cell.groupby("search", sort=False)}
    answer = []
    for name, rows in by_search.items():
        row: dict[str, object] = {"search": name, "seeds": len(rows)}
        row |= {_share(share): rows[column(share)].mean() for share in SHOWN}
        for title, other in ANSWERS.items():
            row[title] = _speedup(rows, by_search.get(other))
        for title, base in BASES.items():
            row[title], row[f"{title} ±"] = _difference(rows, by_search.get(base))
        row |= {"trials": rows["trials"].mean(), "ms": rows["ms"].mean()}
        answer.append(row)
    return answer


def _speedup(rows: pd.DataFrame, others: pd.DataFrame | None) -> float:
    if others is None:
        return np.nan
    seeds = rows.index.intersection(others.index)
    return speedup(*(part.loc[seeds, GRID].to_numpy(float).mean(axis=0) for part in (rows, others)))


def _difference(rows: pd.DataFrame, base: pd.DataFrame | None) -> tuple[float, float]:
    """Mean of the paired differences at the end, and half of its 95 % interval."""
    if base is None:
        return np.nan, np.nan
    difference = (rows[GRID[-1]] - base[GRID[-1]]).dropna().to_numpy(float)
    return float(difference.mean()), _half_interval(difference)


def _half_interval(values: Floats) -> float:
    """Half of the 95 % interval of their mean, by Student's t."""
    from scipy.stats import t

    if len(values) < 2:
        return np.nan
    return float(t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)))


def _means(cells: pd.DataFrame) -> pd.DataFrame:
    """One row a search: means over its cells, of speed-ups geometric ones."""
    groups = cells.groupby("search", sort=False)
    table = groups[[*map(_share, SHOWN), *BASES, "trials", "ms"]].mean()
    for title in ANSWERS:
        table[title] = np.exp(np.log(cells[title]).groupby(cells["search"], sort=False).mean())
    for title in BASES:
        # cells are independent of one another
        half = cells[f"{title} ±"]
        table[f"{title} ±"] = np.sqrt((half**2).groupby(cells["search"], sort=False).mean() / groups.size())
    table["seeds"] = groups["seeds"].sum()
    return table.reset_index()


def _text(rows: pd.DataFrame) -> str:
    most = rows["seeds"].max()
    titles = [*(f"{_share(share):>6}" for share in SHOWN), *(f"{title:>7}" for title in ANSWERS)]
    titles += [f"{title:>15}" for title in BASES]
    lines = [f"{'search':22}{''.join(titles)}{'trials':>7}{'ms':>6}"]
    for row in rows.to_dict("records"):
        seeds = "" if row["seeds"] == most else f" ({row['seeds']} seeds)"
        words = [f"{row[_share(share)]:6.3f}" for share in SHOWN]
        words += [" " * 7 if np.isnan(row[title]) else f"{row[title]:7.2f}" for title in ANSWERS]
        for title, base in BASES.items():
            mean, half = row[title], row[f"{title} ±"]
            same = np.isnan(mean) or row["search"] == base
            words.append(" " * 15 if same else f"{mean:+8.3f}±{half:.3f}{'!' if mean > half else ' '}")
        lines.append(
            f"{row['search'] + seeds:22}{''.join(words)}{row['trials']:7.0f}{row['ms']:6.1f}".rstrip()
        )
    return "\n".join(lines)


def _share(share: float) -> str:
    return "1" if share == 1 else f"1/{1 / share:.0f}"
