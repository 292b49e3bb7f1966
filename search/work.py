"""What a controller hands out and keeps of a trial while it has no outcome."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

import optuna

from search.ladder import Rule

State = Literal["running", "waiting", "interrupted"]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What bounds a search and moves it."""

    min_epochs: int
    max_epochs: int
    reduction_factor: int
    rule: Rule
    trials: int | None
    """Configurations to train; None where only time ends the search."""
    retries: int = 0
    """How often a trial that raised an exception is given out again."""
    known_only: bool = False
    """Train the configurations known beforehand and propose none."""


@dataclass(frozen=True)
class Work:
    """A stint to be done: train this trial on, until `report` says stop."""

    trial: int
    stint: int
    config: Any
    known_epochs: int
    """Epochs already on record; training goes on from the checkpoint that has them, if there is one."""


@dataclass
class LiveTrial:
    """A trial without an outcome."""

    config: Any
    state: State = "interrupted"
    epochs: int = 0
    failures: int = 0
    lost: int = 0
    nodes_lost: int = 0
    epochs_at_loss: int = 0
    """Its epochs when it last lost a node."""
    seconds: float = 0.0
    start: int = 0
    """Level of the first rung that decides about it; it trains on past those below."""
    stints: list[dict[str, Any]] = field(default_factory=list)
    """Each stay on a slot: from which epoch, and what the engine observed of it."""
    rows: list[dict[str, Any]] = field(default_factory=list)
    arrivals: dict[str, int] = field(default_factory=dict)
    """The place of each arrival among all of the search, by the rung's level."""
    gone_on: list[int] = field(default_factory=list)
    """Levels of the rungs it went on past."""


@runtime_checkable
class ChoosesStart(Protocol):
    """A sampler that knows of rungs whose scores say too little to stop a trial there."""

    def starting_rung(self, study: optuna.Study, number: int, levels: Sequence[int]) -> int:
        """The level, one of `levels` (epochs, rising), up to which trial `number` trains undecided."""
        ...
