"""When each slot was busy, when each score was known, and what stopping early saved."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from optuna.trial import FrozenTrial

KINDS = ("training", "validation", "setup", "checkpoint")
"""What a stint's seconds are divided into."""
PAUSE = 600.0
"""Seconds in which nothing ran at all: between two sittings of a search. They are left out."""

NO_TIMES = "It cannot be drawn: the times of its stints are not on record."


@dataclass(frozen=True)
class Stay:
    """A stint with its times, in seconds since 1970."""

    phase: str
    """search, confirm or refit."""
    trial: FrozenTrial
    stint: dict[str, Any]
    begin: float
    end: float


@dataclass(frozen=True)
class Pause:
    """A time in which nobody searched."""

    begin: float
    seconds: float


def stays(phase: str, trials: Iterable[FrozenTrial]) -> list[Stay]:
    """Every stint whose times are on record."""
    return [
        Stay(phase, trial, stint, float(stint["begin"]), float(stint["end"]))
        for trial in trials
        for stint in trial.user_attrs.get("stints", ())
        if stint.get("end", -1.0) >= stint.get("begin", 0.0)
    ]


class Clock:
    """Seconds of searching at any moment: since the first stint began, pauses left out."""

    def __init__(self, known: list[Stay]) -> None:
        ordered = sorted(known, key=lambda stay: stay.begin)
        self.origin = ordered[0].begin if ordered else 0.0
        self.pauses: list[Pause] = []
        last = self.origin
        for stay in ordered:
            if stay.begin - last > PAUSE:
                self.pauses.append(Pause(last, stay.begin - last))
            last = max(last, stay.end)
        self.seconds = self.at(last)
        """From the first moment to the last."""

    def at(self, moment: float) -> float:
        """Seconds of searching until a moment since 1970."""
        return moment - self.origin - sum(p.seconds for p in self.pauses if p.begin < moment)


def lanes(known: list[Stay]) -> list[int]:
    """A slot for each stint, so that no two share one at the same time; as few slots as that takes."""
    found = [0] * len(known)
    busy: list[tuple[float, int]] = []  # until when, and which slot
    free: list[int] = []
    slots = 0
    for position in sorted(range(len(known)), key=lambda i: known[i].begin):
        stay = known[position]
        while busy and busy[0][0] <= stay.begin:
            heapq.heappush(free, heapq.heappop(busy)[1])
        if free:
            lane = heapq.heappop(free)
        else:
            lane, slots = slots, slots + 1
        found[position] = lane
        heapq.heappush(busy, (stay.end, lane))
    return found


def epoch_ends(trial: FrozenTrial) -> dict[int, float]:
    """Seconds since 1970 at which each epoch ended, counted back from the end of its stint.

    Only of stints whose times are on record.
    """
    stints = trial.user_attrs.get("stints", ())
    rows = {int(row["epoch"]): float(row["seconds"]) for row in trial.user_attrs.get("epochs", ())}
    ends: dict[int, float] = {}
    bounds = [*(int(stint["from_epoch"]) for stint in stints[1:]), max(rows, default=0)]
    for stint, last in zip(stints, bounds, strict=True) if stints else ():
        if "begin" not in stint or "end" not in stint:
            continue
        moment = float(stint["end"])
        for epoch in range(last, int(stint["from_epoch"]), -1):
            if epoch in rows:
                # epochs that a crashed stint had trained already are known all at once
                ends[epoch] = max(moment, float(stint["begin"]))
                moment -= rows[epoch]
    return dict(sorted(ends.items()))


@dataclass(frozen=True)
class Spent:
    """Seconds of all trials of a search together."""

    by_kind: dict[str, float]
    """Of `KINDS`."""
    busy: float
    """In which a slot had a stint."""
    idle: float
    """In which a slot had none, from the first moment to the last."""
    saved: float
    """That trials which were stopped early would have trained on to the end, each at its own speed."""


def spent(trials: list[FrozenTrial], max_epochs: int | None) -> Spent:
    """What a search spent and saved; nothing is saved where `max_epochs` is not known."""
    by_kind = dict.fromkeys(KINDS, 0.0)
    saved = 0.0
    for trial in trials:
        noted = trial.user_attrs
        for stint in noted.get("stints", ()):
            for kind, seconds in stint.get("seconds", {}).items():
                by_kind[kind] = by_kind.get(kind, 0.0) + float(seconds)
        epochs = trial.last_step or 0
        if epochs and max_epochs and noted.get("outcome") in ("pruned", "diverged"):
            saved += (max_epochs - epochs) * float(noted.get("seconds", 0.0)) / epochs
    known = stays("search", trials)
    busy = sum(stay.end - stay.begin for stay in known)
    slots = max(lanes(known), default=-1) + 1
    return Spent(by_kind, busy, max(0.0, slots * Clock(known).seconds - busy), saved)


def unit_of(seconds: float) -> tuple[str, float]:
    """What a time axis counts in, and how many seconds that is."""
    if seconds < 180:
        return "seconds", 1.0
    return ("minutes", 60.0) if seconds < 3 * 3600 else ("hours", 3600.0)
