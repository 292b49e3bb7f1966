"""What a search may be expected to reach, and when: simulations of many seeds, as a table and a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from search.figure import new_figure, save_figure
from search.settings import UsageError

if TYPE_CHECKING:
    import pandas as pd

POINTS = 200
"""Moments at which the best score is read off."""
SHOWN = (1 / 16, 1 / 4, 1 / 2, 1.0)
"""Shares of the whole time that the table shows."""


def best_over_time(rows: pd.DataFrame, times: NDArray[np.float64], sign: float) -> NDArray[np.float64]:
    """Best score until each of `times` in a simulation's rows; NaN before the first.

    `sign` is 1 where larger is better, else -1. Shape as `times`.
    """
    finite = rows[np.isfinite(rows["value"])]
    best = np.maximum.accumulate(sign * finite["value"].to_numpy(float))
    place = np.searchsorted(finite["time"].to_numpy(float), times, side="right")
    return sign * np.append(np.nan, best)[place]


def forecast(searches: Sequence[pd.DataFrame], sign: float) -> pd.DataFrame:
    """Mean of the best score over time, with a 95 % interval of that mean, over simulations of many seeds.

    Columns: time (seconds), mean, low, high; from the moment at which every search has a score, until the
    last one ends. A search that ended keeps its best.
    """
    import pandas as pd

    end = max(float(rows["time"].max()) for rows in searches)
    times = np.linspace(0.0, end, POINTS + 1)[1:]
    scores = np.stack([best_over_time(rows, times, sign) for rows in searches])
    mean = scores.mean(axis=0)  # NaN until every search has a score
    deviation = scores.std(axis=0, ddof=1) if len(scores) > 1 else np.zeros_like(mean)
    half = 1.96 * deviation / np.sqrt(len(scores))
    table = pd.DataFrame({"time": times, "mean": mean, "low": mean - half, "high": mean + half})
    return table.dropna(ignore_index=True)


def summary(forecasts: dict[int, pd.DataFrame], trials: dict[int, float]) -> pd.DataFrame:
    """A row a number of workers: trials begun, hours in all, and the best score at shares of the time."""
    import pandas as pd

    rows: list[dict[str, Any]] = []
    for workers, table in forecasts.items():
        end = float(table["time"].iloc[-1])
        row: dict[str, Any] = {"workers": workers, "trials": round(trials[workers], 1), "hours": end / 3600}
        for share in SHOWN:
            until = table[table["time"] <= share * end * (1 + 1e-9)]
            if until.empty:
                row[f"best at {share:.0%}"] = ""
                continue
            at = until.iloc[-1]
            row[f"best at {share:.0%}"] = f"{at['mean']:.4f} ±{at['high'] - at['mean']:.4f}"
        rows.append(row)
    return pd.DataFrame(rows)


def plot(forecasts: dict[int, pd.DataFrame], path: Path, title: str) -> None:
    """Best score over time, a line a number of workers with its interval; the suffix says the format.

    Raises UsageError where the picture cannot be drawn or written.
    """
    figure = new_figure(7, 4.5)
    axes = figure.add_subplot()
    for workers, table in forecasts.items():
        hours = table["time"] / 3600
        (line,) = axes.plot(hours, table["mean"], label=f"{workers} worker{'s' if workers > 1 else ''}")
        axes.fill_between(hours, table["low"], table["high"], color=line.get_color(), alpha=0.2, linewidth=0)
    axes.set(xscale="log", xlabel="hours", ylabel="best score", title=title)
    axes.legend()
    try:
        save_figure(figure, path)
    except (OSError, ValueError) as error:
        raise UsageError(f"--plot {path} cannot be written: {error}") from error
