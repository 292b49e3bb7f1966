"""The record of a search: one Optuna study, complete in memory and on disk.

Samplers and decisions read the study in memory, which costs no query; every change is also written to the
storage, by this process alone. What is on disk is always a study that Optuna's own tools can open.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

Outcome = Literal["complete", "pruned", "diverged", "infeasible", "failed"]

_STATES: dict[Outcome, TrialState] = {
    "complete": TrialState.COMPLETE,
    "pruned": TrialState.PRUNED,
    "diverged": TrialState.PRUNED,
    "infeasible": TrialState.PRUNED,
    "failed": TrialState.FAIL,
}
# a broken constraint ranks a trial below every healthy one, whatever its last step
_CONSTRAINTS: dict[Outcome, str] = {"diverged": "finite", "infeasible": "feasible"}

UNSCORED: frozenset[str] = frozenset({"diverged", "infeasible", "failed"})
"""Outcomes whose trials have no place among the best, whatever they once scored."""

COMMIT_SECONDS = 1.0


class StudyRecord:
    """One study. `url` None keeps it in memory only (a simulation)."""

    def __init__(self, name: str, direction: Literal["maximize", "minimize"], url: str | None = None) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.study = optuna.create_study(study_name=name, direction=direction)
        self._disk: _Disk | None = None if url is None else _Disk.create(url, name, direction)

    @classmethod
    def reopen(cls, url: str) -> StudyRecord:
        """The record of an earlier search, to go on with. Raises ValueError where there is none."""
        disk, name = _Disk.open(url)
        saved = optuna.load_study(study_name=name, storage=disk.storage)
        minimize = saved.direction == StudyDirection.MINIMIZE
        record = cls(name, "minimize" if minimize else "maximize")
        for key, value in saved.user_attrs.items():
            record.study.set_user_attr(key, value)
        for trial in saved.get_trials(deepcopy=False):
            record.study.add_trial(trial)
            disk.ids[trial.number] = trial._trial_id
        record._disk = disk
        return record

    def set_attributes(self, attributes: Mapping[str, Any]) -> None:
        """Note facts about the whole search, as JSON types."""
        for key, value in attributes.items():
            self.study.set_user_attr(key, value)
            if self._disk is not None:
                self._disk.storage.set_study_user_attr(self._disk.study_id, key, value)

    def ask(
        self,
        sampler: optuna.samplers.BaseSampler,
        suggest: Callable[[optuna.Trial], Any],
        baseline: tuple[str, Mapping[str, Any]] | None = None,
    ) -> tuple[int, Any]:
        """A new trial, RUNNING and not yet on disk; returns its number and what `suggest` made of it.

        `baseline` is a name and the parameters to use instead of the sampler's. Follow with `begin`.
        """
        self.study.sampler = sampler
        if baseline is not None:
            self.study.enqueue_trial(dict(baseline[1]), user_attrs={"baseline": baseline[0]})
        trial = self.study.ask()
        return trial.number, suggest(trial)

    def begin(self, number: int, attributes: Mapping[str, Any]) -> None:
        """Note facts about a new trial and commit it to disk, before anything trains."""
        self.note(number, attributes)
        if self._disk is not None:
            self._disk.add(self.trial(number))

    def trial(self, number: int) -> FrozenTrial:
        """The trial as it stands; not to be changed."""
        return self.study.get_trials(deepcopy=False)[number]

    def trials(self) -> list[FrozenTrial]:
        """All trials as they stand, by number; not to be changed."""
        return self.study.get_trials(deepcopy=False)

    def note(self, number: int, attributes: Mapping[str, Any]) -> None:
        """Note facts about a trial, as JSON types; on disk within a second if it is there already."""
        trial = self._live(number)
        for key, value in attributes.items():
            trial.set_user_attr(key, value)
            if self._disk is not None:
                self._disk.note(number, key, value)

    def report(self, number: int, epoch: int, score: float) -> None:
        """Note the score after an epoch; one already reported keeps its first value."""
        trial = self._live(number)
        if epoch in self.trial(number).intermediate_values:
            return
        trial.report(score, epoch)
        if self._disk is not None:
            self._disk.report(number, epoch, score)

    def tell(self, number: int, outcome: Outcome, score: float | None = None) -> None:
        """End a trial, on disk when this returns. `score` goes with `complete` alone."""
        assert (score is not None) == (outcome == "complete")
        self.note(number, {"outcome": outcome})
        if outcome in _CONSTRAINTS:
            self._live(number).set_constraint(_CONSTRAINTS[outcome], 1.0)
        self.study.tell(number, score, state=_STATES[outcome])
        if self._disk is not None:
            self._disk.finish(number, self.trial(number), _CONSTRAINTS.get(outcome))

    def flush(self, *, force: bool = False) -> bool:
        """Write what is noted; without `force` only if the last time was a second ago. Whether it did."""
        return self._disk is not None and self._disk.flush(force=force)

    def close(self) -> None:
        """Write everything and let the storage go."""
        if self._disk is not None:
            self._disk.close()
            self._disk = None

    def _live(self, number: int) -> optuna.Trial:
        return optuna.Trial(self.study, self.trial(number)._trial_id)


class _Disk:
    """The study in a database: new trials and ends at once, reports and notes within a second."""

    def __init__(self, storage: optuna.storages.RDBStorage, study_id: int) -> None:
        self.storage, self.study_id = storage, study_id
        self.ids: dict[int, int] = {}
        """The storage's own id of each trial."""
        self._scores: list[tuple[int, int, float]] = []
        self._notes: dict[tuple[int, str], Any] = {}  # a later note of the same name replaces the earlier
        self._written = time.monotonic()

    @classmethod
    def create(cls, url: str, name: str, direction: str) -> _Disk:
        storage = open_storage(url)
        directions = [StudyDirection.MAXIMIZE if direction == "maximize" else StudyDirection.MINIMIZE]
        return cls(storage, storage.create_new_study(directions, name))

    @classmethod
    def open(cls, url: str) -> tuple[_Disk, str]:
        storage = open_storage(url)
        name = _search_name(storage, url)
        return cls(storage, storage.get_study_id_from_name(name)), name

    def add(self, trial: FrozenTrial) -> None:
        # one transaction holds the whole trial, its parameters and what is noted so far
        trial_id = self.storage.create_new_trial(self.study_id, template_trial=trial)
        self.ids[trial.number] = trial_id
        for key in trial.user_attrs:
            self._notes.pop((trial.number, key), None)

    def note(self, number: int, key: str, value: Any) -> None:
        self._notes[number, key] = value

    def report(self, number: int, epoch: int, score: float) -> None:
        self._scores.append((number, epoch, score))

    def finish(self, number: int, trial: FrozenTrial, constraint: str | None) -> None:
        self.flush(force=True)
        trial_id = self.ids[number]
        for key, value in trial.system_attrs.items():
            if constraint is not None and key.endswith(f":{constraint}"):
                self.storage.set_trial_system_attr(trial_id, key, value)
        self.storage.set_trial_state_values(trial_id, trial.state, trial.values)

    def flush(self, *, force: bool) -> bool:
        if not force and time.monotonic() - self._written < COMMIT_SECONDS:
            return False
        for number, epoch, score in self._scores:
            self.storage.set_trial_intermediate_value(self.ids[number], epoch, score)
        self._scores.clear()
        for (number, key), value in list(self._notes.items()):
            if number in self.ids:  # else it goes with `add`
                self.storage.set_trial_user_attr(self.ids[number], key, value)
                del self._notes[number, key]
        self._written = time.monotonic()
        return True

    def close(self) -> None:
        self.flush(force=True)
        self.storage.engine.dispose()


def open_storage(url: str) -> optuna.storages.RDBStorage:
    """The database at `url`, made if it is not there; SQLite is set up for one writer and many readers."""
    import sqlalchemy

    is_sqlite = url.startswith("sqlite")
    arguments = {"connect_args": {"timeout": 60}} if is_sqlite else {"pool_pre_ping": True}
    storage = optuna.storages.RDBStorage(url, engine_kwargs=arguments)
    if is_sqlite:

        @sqlalchemy.event.listens_for(storage.engine, "connect")
        def _set_up(connection: Any, _: Any) -> None:
            # the log makes a commit cheap, and readers never wait for the writer; a killed process loses
            # nothing, a power cut at most the last commits
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=NORMAL")

        storage.engine.dispose()  # connections made before this hook
    return storage


def sqlite_url(path: Path) -> str:
    """Address of a SQLite file, whatever characters its path has."""
    import sqlalchemy

    address = sqlalchemy.URL.create("sqlite", database=str(path.resolve()))
    return address.render_as_string(hide_password=False)


def load_study(path: Path) -> optuna.Study:
    """The study in a run folder's database, for reading; also while a search writes it.

    Raises ValueError where there is none.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if not path.is_file():
        raise ValueError(f"{path} does not exist: give the folder of a run, such as results/NAME")
    import sqlalchemy

    try:
        storage = open_storage(sqlite_url(path))
    except sqlalchemy.exc.SQLAlchemyError as error:
        raise ValueError(f"{path} is damaged, or no study: {error.__cause__ or error}") from error
    return optuna.load_study(study_name=_search_name(storage, str(path)), storage=storage)


def _search_name(storage: optuna.storages.RDBStorage, place: str) -> str:
    """The name of the search's own study, whatever the folder is called by now."""
    names = optuna.get_all_study_names(storage)
    if not names:
        raise ValueError(f"{place} holds no study: the run ended before it began")
    return names[0]
