"""The rungs of one search and the rule by which trials climb them."""

from __future__ import annotations

from typing import Literal

from search.rungs import Rung, promotable, rung_levels, survives

Rule = Literal["stop", "promote", "none"]
Verdict = Literal["go on", "wait", "stop"]


class Ladder:
    """Rungs by level, the lowest first; the last one is the end and decides nothing."""

    def __init__(self, min_epochs: int, max_epochs: int, reduction_factor: int, rule: Rule) -> None:
        self.reduction_factor, self.rule = reduction_factor, rule
        self.rungs = [Rung(level) for level in rung_levels(min_epochs, max_epochs, reduction_factor)]
        self._at = {rung.level: rung for rung in self.rungs}

    @property
    def levels(self) -> list[int]:
        """Epochs of the rungs, rising."""
        return [rung.level for rung in self.rungs]

    def at(self, epochs: int) -> Rung | None:
        """The rung at this many epochs."""
        return self._at.get(epochs)

    def __getitem__(self, level: int) -> Rung:
        return self._at[level]

    def verdict(self, rung: Rung, trial: int) -> Verdict:
        """What becomes of a trial that has just arrived at a rung below the last."""
        if self.rule == "none":
            return "go on"
        if self.rule == "stop":
            return "go on" if survives(rung, trial, self.reduction_factor) else "stop"
        return "wait"

    def promotion(self) -> tuple[Rung, int] | None:
        """The best trial to promote from the highest rung that has one."""
        if self.rule != "promote":
            return None
        for rung in reversed(self.rungs[:-1]):
            trial = promotable(rung, self.reduction_factor)
            if trial is not None:
                return rung, trial
        return None

    def furthest(self) -> tuple[Rung, int] | None:
        """The best of those that wait at the highest rung that has any, whether or not it may go on."""
        if self.rule != "promote":
            return None
        for rung in reversed(self.rungs[:-1]):
            trial = rung.best_staying()
            if trial is not None:
                return rung, trial
        return None

    def leave(self, trial: int) -> None:
        """A trial has ended: it keeps its place in the ranking and never goes on."""
        for rung in self.rungs:
            if trial in rung.scores:
                rung.leave(trial)
