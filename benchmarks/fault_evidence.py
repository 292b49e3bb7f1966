"""What a killed search left behind, and what is wrong with it: for `benchmarks.faults`.

An epoch counts as trained when its TensorBoard event is there, which the worker writes, flushed, the moment
that the epoch is done, whatever becomes of its report.
"""

from __future__ import annotations

import math
import struct
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from optuna.trial import FrozenTrial
from tensorboardX.proto.event_pb2 import Event

from search.database import load_study
from search.results import Results, RunFolder
from trainables import checkpoint

OUTCOMES = {"complete", "pruned", "diverged", "infeasible", "failed"}
TIMES = {"seconds", "validation_seconds", "images_per_second"}
"""Of an epoch's report what no two runs share."""


@dataclass(frozen=True)
class Evidence:
    """A run folder at one moment, while nothing works on it."""

    trained: dict[int, dict[Path, list[int]]]
    """Epochs by trial and event file, one file a stint, in the order in which they were trained."""
    saved: dict[int, int]
    """Epoch of each trial's newest whole checkpoint."""
    recorded: dict[int, int]
    """Epochs on record, by trial."""
    unfinished: int
    """Trials without an outcome."""

    @property
    def epochs(self) -> int:
        """Epochs on record."""
        return sum(self.recorded.values())


def gather(path: Path) -> Evidence:
    """What lies in the run folder `path`; nothing where the search has not come that far."""
    folder = RunFolder(path)
    trained: dict[int, dict[Path, list[int]]] = defaultdict(dict)
    for file in sorted(path.glob("trials/*/events*")):
        trained[int(file.parent.name)][file] = trained_epochs(file)
    states = {number: checkpoint.load(folder.trial(number)) for number in trained}
    try:
        trials = load_study(folder.database).get_trials(deepcopy=False)
    except ValueError:
        trials = []
    return Evidence(
        dict(trained),
        {number: state["training"]["epoch"] for number, state in states.items() if state is not None},
        {trial.number: len(trial.intermediate_values) for trial in trials},
        sum(not trial.state.is_finished() for trial in trials),
    )


def trained_epochs(file: Path) -> list[int]:
    """Epochs that an event file tells of; one cut off in the middle of an event ends before it."""
    content, at, epochs = file.read_bytes(), 0, []
    while at + 12 <= len(content):  # length (8 bytes), checksum (4), the event, checksum (4)
        (length,) = struct.unpack_from("<Q", content, at)
        if at + 16 + length > len(content):
            break
        event = Event.FromString(content[at + 12 : at + 12 + length])
        at += 16 + length
        if event.HasField("summary") and event.step:  # step 0 tells of the configuration
            epochs.append(event.step)
    return epochs


def sitting(before: Evidence, after: Evidence) -> tuple[int, list[str]]:
    """Epochs that a sitting between the two repeated, and what it did that must not be."""
    repeated, wrong = 0, []
    for number, files in after.trained.items():
        known = before.trained.get(number, {})
        new = [epoch for file, epochs in files.items() if file not in known for epoch in epochs]
        start = before.saved.get(number, 0) + 1
        if new != list(range(start, start + len(new))):
            wrong.append(f"trial {number} trained epochs {new} where {start} was the first to be trained")
        repeated += len(set(new) & {epoch for epochs in known.values() for epoch in epochs})
    return repeated, wrong


def faults_at_the_end(path: Path, trials: int, max_epochs: int) -> list[str]:
    """What is wrong with the finished search in `path`, which was to train `trials` configurations."""
    results, evidence = Results(path), gather(path)
    study = results.study.get_trials(deepcopy=False)
    wrong = []
    if results.stopped != "finished":
        wrong.append(f"the search ended with {results.stopped!r}")
    if [trial.number for trial in study] != list(range(trials)):
        wrong.append(f"trials {[trial.number for trial in study]} where 0 to {trials - 1} were to be")
    for trial in study:
        wrong += [f"trial {trial.number} {text}" for text in _faults_of(trial, max_epochs)]
        trained = {e for epochs in evidence.trained.get(trial.number, {}).values() for e in epochs}
        # an epoch past a rung may be trained and then given up, where its promotion was not yet committed
        if not set(trial.intermediate_values) <= trained:
            wrong.append(f"trial {trial.number} trained {trained}, recorded {set(trial.intermediate_values)}")
    return wrong


def _faults_of(trial: FrozenTrial, max_epochs: int) -> list[str]:
    values, outcome = trial.intermediate_values, trial.user_attrs.get("outcome")
    wrong = []
    if not trial.state.is_finished() or outcome not in OUTCOMES:
        wrong.append(f"is {trial.state.name} with outcome {outcome}")
    if list(values) != list(range(1, len(values) + 1)):
        wrong.append(f"has values at epochs {list(values)}")
    if [row["epoch"] for row in trial.user_attrs.get("epochs", [])] != list(values):
        wrong.append(f"has values at epochs {list(values)} and reports of others")
    if outcome != "diverged" and not all(math.isfinite(value) for value in values.values()):
        wrong.append(f"has values that are no numbers: {values}")
    if outcome == "failed":
        wrong.append(f"failed: {trial.user_attrs.get('error')}")
    if (outcome == "complete") != (len(values) == max_epochs):
        wrong.append(f"is {outcome} after {len(values)} epochs")
    return wrong


def differences(path: Path, undisturbed: Path) -> tuple[int, list[str]]:
    """Epochs that both searches trained, and where parameters or reports of a trial are not the same."""
    ours, theirs = (Results(each).study.get_trials(deepcopy=False) for each in (path, undisturbed))
    wrong = [] if len(ours) == len(theirs) else [f"{len(ours)} trials, undisturbed {len(theirs)}"]
    compared = 0
    for one, other in zip(ours, theirs, strict=False):
        if one.params != other.params:
            wrong.append(f"trial {one.number} has other parameters: {one.params}, {other.params}")
        reports = (trial.user_attrs.get("epochs", ()) for trial in (one, other))
        for mine, its in zip(*reports, strict=False):
            compared += 1
            different = [name for name in mine if name not in TIMES and mine[name] != its[name]]
            if different:
                wrong.append(f"trial {one.number} differs at epoch {mine['epoch']} in {different}")
    return compared, wrong
