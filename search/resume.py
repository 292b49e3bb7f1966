"""Going on with an earlier search: what may change, what must not have changed, and one driver at a time."""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import platform
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import fields, replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from search.results import RunFolder
from search.settings import OF_A_SITTING, Settings, UsageError, defaults
from trainables.storage import TakenOverError

if TYPE_CHECKING:
    from search.preflight import Prepared
    from trainables.data import Dataset

CHANGEABLE = frozenset(
    {
        "trials",
        "time_budget",
        "total_epochs",
        "gpu_hours",
        "address",
        "wait_for",
        "wait_timeout",
        "head_trains",
        "cpus_per_trial",
        "gpus_per_trial",
        "max_concurrent",
        "device",
        "compile",
        "data_dir",
        "weights",
        "retries",
        "confirm",
        "confirm_top",
        "confirm_seeds",
        "checkpoint_seconds",
        "top",
        "quiet",
        "dashboard",
        "study_storage",
    }
)
"""Settings that a resume may change: budgets, resources, what is shown, and where a database is now; also
where weights are, for their hash must be the same."""

HEARTBEAT_SECONDS = 10.0
STALE_SECONDS = 60.0


def saved_document(folder: RunFolder, option: str = "--resume") -> dict[str, Any]:
    """What settings.json says. Raises UsageError, naming `option`, where the folder holds no run."""
    try:
        document: dict[str, Any] = json.loads(folder.settings.read_text(encoding="utf-8"))
        kinds = {"settings": dict, "hashes": dict, "task": dict, "dataset": str}
        if isinstance(document, dict) and all(isinstance(document.get(k), kinds[k]) for k in kinds):
            return document
    except FileNotFoundError as error:
        raise UsageError(
            f"{option}: there is no run in {folder.location}: give the folder of a run, such as results/NAME"
        ) from error
    except (OSError, ValueError) as error:
        raise UsageError(f"{folder.shown(folder.settings.name)} cannot be read: {error}") from error
    raise UsageError(
        f"{option}: {folder.shown(folder.settings.name)} is not that of a run: give the folder of a run, "
        "such as results/NAME"
    )


def saved_settings(folder: RunFolder) -> Settings:
    """The settings of the run in `folder`, with the place it lies at now, for a sitting on this machine.

    Raises UsageError.
    """
    document = saved_document(folder)
    values = dict(document["settings"])
    known = {field.name for field in fields(Settings)}
    unknown = sorted(set(values) - known)
    if unknown:
        raise UsageError(f"{folder.settings} was written by another version: unknown {', '.join(unknown)}")
    # the data set that was found then, not what `auto` might find today
    values |= {"dataset": document["dataset"], "name": folder.path.name, "storage": folder.storage}
    values |= {name: defaults()[name] for name in OF_A_SITTING}
    return Settings(**values)


def check_changes(saved: Settings, asked: Settings) -> None:
    """Raise UsageError where a resume asks for something else than budgets, resources or output."""
    for field in fields(Settings):
        before, after = getattr(saved, field.name), getattr(asked, field.name)
        if before != after and field.name not in CHANGEABLE:
            option = "--" + field.name.replace("_", "-")
            raise UsageError(
                f"a resume cannot change {option} from {before} to {after}: start a new run, or leave it out"
            )


def hashes(space: str, dataset: Dataset, weights: str = "none") -> dict[str, str]:
    """What must be the same for trials of two sittings to be comparable.

    `space` is its module, `weights` what pretrained networks begin with (see `Task.weights`).
    """
    from trainables.checkpoint import code_hash

    sources = [inspect.getsource(module) for module in _of_space(sys.modules[space])]
    return {
        "data": dataset.fingerprint,
        "space": hashlib.sha256("".join(sources).encode()).hexdigest()[:16],
        "code": code_hash(*own_modules(space)),
        "weights": weights,
    }


def _of_space(module: ModuleType) -> list[ModuleType]:
    """The module of a space, and those that it has something from in package `spaces`; in that order."""
    found = [module]
    for one in found:
        values = vars(one).values()
        names = {str(getattr(value, "__module__", getattr(value, "__name__", ""))) for value in values}
        others = [sys.modules.get(name) for name in sorted(names) if name.startswith("spaces.")]
        found += [other for other in others if other is not None and other not in found]
    return found


def check_unchanged(prepared: Prepared) -> Prepared:
    """The search as it was prepared, with the note on its data that it began with.

    Raises UsageError naming what is not as it was: data, space, or training code.
    """
    document = saved_document(prepared.folder)
    before = {"weights": "none", **document["hashes"]}  # a run from before there were any
    names = {
        "data": f"the data set {prepared.dataset.name}",
        "space": f"the space {prepared.space.name}",
        "code": "the training code",
        "weights": f"the weights {prepared.settings.weights}",
    }
    now = hashes(prepared.space.module, prepared.dataset, prepared.task.weights)
    changed = [names[key] for key, value in now.items() if before.get(key) != value]
    if changed:
        raise UsageError(
            f"{' and '.join(changed)} changed since {prepared.folder.location} began, so new scores could "
            "not be compared with old ones: restore what changed, or start a new run"
        )
    return replace(prepared, dataset=replace(prepared.dataset, note=document["note"]))


def own_modules(space: str) -> list[ModuleType]:
    """The modules of a user's own space: its module, and what it imports from its own package."""
    root = space.partition(".")[0]
    if root in ("spaces", "trainables", "search"):
        return []
    names = sorted(name for name in sys.modules if name == root or name.startswith(f"{root}."))
    return [sys.modules[name] for name in names]


class DriverLock:
    """One driver at a time on a run folder: a file with host, process and heartbeat."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self.path = folder.path / "driver.json"
        self._beat = 0.0
        self._own = {"host": platform.node(), "pid": os.getpid(), "started": _started(os.getpid())}
        self.drivers: list[str] = []
        """The drivers of the run, once this one is among them: it is to stay the last of them."""

    def take(self) -> None:
        """Hold the folder. Raises UsageError naming the driver that holds it, if one is alive."""
        self.check_free()
        self.beat()

    def check_free(self) -> None:
        """Raise UsageError naming the driver that holds the folder, if one is alive."""
        holder = self._holder()
        if holder is not None:
            raise UsageError(
                f"{self.folder.location} is being searched by process {holder['pid']} on {holder['host']}: "
                "wait for it, or stop it first"
            )

    def beat(self) -> None:
        """Show that this driver lives; cheap to call often.

        Raises TakenOverError where another driver went on with the run, which took this one for dead.
        """
        now = time.monotonic()
        if self._beat and now - self._beat < HEARTBEAT_SECONDS:
            return
        drivers = self.folder.drivers
        if self.drivers and drivers and drivers != self.drivers:
            raise TakenOverError(
                f"another driver went on with {self.folder.location}, for this one had not been heard of"
            )
        self._beat = now
        self.folder.write_json(self.path.name, {**self._own, "time": time.time()})

    def release(self) -> None:
        """Let the folder go."""
        holder = self._read()
        if holder is None or self._is_ours(holder):
            self.path.unlink(missing_ok=True)

    def _is_ours(self, holder: Mapping[str, Any]) -> bool:
        return all(holder.get(name) == value for name, value in self._own.items())

    def _read(self) -> dict[str, Any] | None:
        try:
            holder: dict[str, Any] = json.loads(self.path.read_text(encoding="utf-8"))
            float(holder["time"]), holder["host"], int(holder["pid"])
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return holder

    def _holder(self) -> dict[str, Any] | None:
        holder = self._read()
        if holder is None:
            return None
        fresh = time.time() - float(holder["time"]) < STALE_SECONDS
        if holder["host"] != platform.node():
            return holder if fresh else None
        # on this host it can be seen; one that was suspended has no heartbeat and may go on
        pid = int(holder["pid"])
        return holder if _alive(pid) and holder.get("started", "") in ("", _started(pid)) else None


def _alive(pid: int) -> bool:
    if pid == os.getpid():
        return False  # an earlier search of this very process, a notebook's
    with suppress(ProcessLookupError):
        try:
            os.kill(pid, 0)
        except PermissionError:
            return True
        return True
    return False


def _started(pid: int) -> str:
    """When a process began, in the system's own unit: another one of the same number began later."""
    try:
        # after the name in brackets, which may hold anything, come fields from the third on
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""
