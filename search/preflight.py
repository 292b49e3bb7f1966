"""What must hold before the first trial: the cheapest checks first, each refusal one line."""

from __future__ import annotations

import importlib.util
import os
import re
import tempfile
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

from search.copies import opened, run_folder
from search.database import check_database
from search.object_store import check_room
from search.results import RunFolder, free_bytes, has_begun, nearest_existing, study_name
from search.resume import hashes, saved_document
from search.sampler import check_sampler
from search.settings import Auto, Settings, UsageError
from search.slots import Slots, slots_for, this_machine
from search.transfer import Transfer, transfer_from
from spaces import Space, check_space, load_space, misfits
from trainables.config import Task
from trainables.data import Dataset, ProgressFactory, check_name, load_dataset
from trainables.data.dataset import silent
from trainables.place import check_place
from trainables.remote import RemotePlace
from trainables.storage import StorageError
from trainables.weights import NO_WEIGHTS, Weights, check_weights, load_weights

CPU_MACS_A_PIXEL = 100_000
"""Eight times those of a plain CNN, a fifth of those of a ResNet18 made for images of 32 pixels."""
CPU_PRETRAINED_MACS = 600_000_000
"""What an image may cost on a CPU with pretrained networks, which see it larger than it is: a ResNet18 at up
to 128 px, a DenseNet121 at 96, every MobileNet; what is left out would take hours for an epoch."""
LEAST_FREE_BYTES = 500 * 2**20
DASHBOARD_NEEDS = ("aiohttp", "aiohttp_cors", "opencensus")


@dataclass(frozen=True)
class Prepared:
    """A search that can begin."""

    settings: Settings
    """With every `auto` of the search itself replaced by what was chosen."""
    space: Space
    baselines: dict[str, dict[str, object]]
    """The baselines to run, by name."""
    skipped: dict[str, str]
    """Baselines that do not fit the task, and why."""
    dataset: Dataset
    task: Task
    slots: Slots
    folder: RunFolder
    transfer: Transfer = field(default_factory=Transfer)
    """What is taken over from an earlier run."""
    weights: Weights = NO_WEIGHTS
    """For pretrained networks; `task.weights` is their name."""


@dataclass(frozen=True)
class Request:
    """A search that may be asked for; its data set is still to be read."""

    settings: Settings
    space: Space
    slots: Slots | None
    """None: those of a cluster that is still to be joined."""
    resume: bool
    """Whether its run folder is there."""


def check_request(settings: Settings, *, resume: bool = False) -> Request:
    """Everything that can be known without data, Ray or a network.

    Raises UsageError, DataError or SpaceError.
    """
    space = load_space(settings.space)
    check_sampler(settings.sampler)
    if settings.study_storage != "auto":
        name = study_name(run_folder(settings.storage, settings.name)) if resume else settings.name
        check_database(settings.study_storage, name or "auto", resume=resume)
    if resume:
        _check_record(run_folder(settings.storage, settings.name), settings.study_storage)
    if settings.start_from is not None and not resume:
        with opened(settings.start_from) as earlier:
            saved_document(earlier, "--start-from")
    check_name(settings.dataset, settings.data_dir)
    if space.architectures:
        check_weights(settings.weights)
    try:
        if isinstance(settings.storage, str):
            check_place(settings.storage)
            _check_storage(run_folder(settings.storage, "any").path.parent)  # where the driver writes
        if settings.name != "auto" and not resume:
            _check_new(run_folder(settings.storage, settings.name))
        if isinstance(settings.storage, Path):
            _check_storage(settings.storage)
    except StorageError as error:
        raise UsageError(f"--storage: {error}") from error
    except OSError as error:
        raise UsageError(f"--storage {settings.storage} cannot be used: {error.strerror}") from error
    if settings.dashboard and any(importlib.util.find_spec(name) is None for name in DASHBOARD_NEEDS):
        raise UsageError("--dashboard needs packages that are not installed: uv pip install 'ray[default]'")
    request = Request(settings, space, None, resume)
    if settings.address != "local":
        return request
    return with_slots(request, slots_for(settings, this_machine(look_for_gpus=settings.device != "cpu")))


def with_slots(request: Request, slots: Slots) -> Request:
    """The search on slots like these. Raises UsageError where they do not go with what is asked."""
    settings = request.settings
    if settings.gpu_hours is not None and not slots.gpus:
        raise UsageError("--gpu-hours is a budget of GPUs, but trials get none here: use --time-budget")
    return replace(request, settings=_with_defaults(settings, gpus=slots.gpus > 0), slots=slots)


def prepare(request: Request, progress: ProgressFactory | None = None) -> Prepared:
    """Read the data, and try the space on it.

    Raises UsageError, DataError or SpaceError; nothing is left behind but the data cache.
    """
    settings, space, slots = request.settings, request.space, request.slots
    assert slots is not None
    weights = load_weights(
        settings.weights, space.architectures, data_dir=settings.data_dir, progress=progress or silent
    )
    if space.architectures and settings.weights not in ("imagenet", "none"):
        settings = replace(settings, weights=str(Path(settings.weights).expanduser().resolve()))
    dataset = load_dataset(
        settings.dataset,
        data_dir=settings.data_dir,
        image_size=None if settings.image_size == "auto" else settings.image_size,
        val_fraction=settings.val_fraction,
        seed=settings.seed,
        progress=progress,
    )
    check_room(dataset, weights=weights.nbytes, copies=2 if settings.confirm else 1)
    if settings.dataset == "auto":
        settings = replace(settings, dataset=dataset.name)  # the one that a repetition has to read
    if settings.max_macs == "auto":
        limit = CPU_MACS_A_PIXEL * dataset.train.images.shape[1] ** 2
        if space.architectures:
            limit = max(limit, CPU_PRETRAINED_MACS)
        settings = replace(settings, max_macs=None if slots.gpus else limit)
    assert isinstance(settings.max_epochs, int)
    task = Task(
        image_size=dataset.train.images.shape[1],
        classes=len(dataset.class_names),
        train_images=len(dataset.train),
        max_epochs=settings.max_epochs,
        weights=weights.name,
        architectures=tuple(weights.states) or space.architectures,
    )
    skipped = misfits(space, task) if settings.baselines else {}
    baselines = {name: space.baselines[name] for name in space.baselines if name not in skipped}
    if settings.baselines and not baselines:
        reason = f": {next(iter(skipped.values()))}" if skipped else ""
        raise UsageError(f"--baselines: space {space.name} has none that fits{reason}")
    check_space(space, task, seed=settings.seed, baselines=baselines if settings.baselines else ())
    name = settings.name
    if name == "auto":
        name = _free_name(settings, space, dataset)
    folder = run_folder(settings.storage, name)
    transfer = Transfer()
    if settings.start_from is not None and not (request.resume and has_begun(folder, settings.study_storage)):
        known = hashes(space.module, dataset, task.weights)
        transfer = transfer_from(settings.start_from, space, task, settings.metric, known)
    if not settings.baselines:
        baselines = {}
    return Prepared(settings, space, baselines, skipped, dataset, task, slots, folder, transfer, weights)


def _with_defaults(settings: Settings, *, gpus: bool) -> Settings:
    budget = settings.time_budget != "none" or settings.total_epochs or settings.gpu_hours
    trials: int | Auto = "auto" if budget else 100 if gpus else 12
    return replace(
        settings,
        trials=trials if settings.trials == "auto" else settings.trials,
        max_epochs=(
            max(settings.min_epochs, 27 if gpus else 9)
            if settings.max_epochs == "auto"
            else settings.max_epochs
        ),
    )


def _check_new(folder: RunFolder) -> None:
    if _is_there(folder):
        raise UsageError(
            f"a run called {folder.path.name} is there already: {folder.location}; choose another --name"
        )


def _is_there(folder: RunFolder) -> bool:
    if not folder.address:
        return nearest_existing(folder.path) == folder.path
    store = RemotePlace(folder.address)
    return bool(store.names() or store.folders())


def _check_record(folder: RunFolder, storage: str) -> None:
    """Refuse to go on without the record: trials would get numbers that others had."""
    checkpoints = folder.checkpoints / "trials"
    trained = checkpoints.exists() if isinstance(checkpoints, Path) else checkpoints.folders()
    if trained and not has_begun(folder, storage):
        where = folder.shown(folder.database.name) if storage == "auto" else storage
        raise UsageError(
            f"the record of {folder.location} is not in {where}: give its place by --study-storage, or "
            "begin anew"
        )


def _check_storage(storage: Path) -> None:
    """Refuse a storage that cannot be written, or has too little room."""
    place = nearest_existing(storage)
    if not place.is_dir():
        raise UsageError(f"--storage {storage} must be a folder, but {place} is none")
    if not _writable(place):
        raise UsageError(f"--storage {storage} cannot be written: no permission in {place.resolve()}")
    free = free_bytes(storage)
    if free < LEAST_FREE_BYTES:
        raise UsageError(
            f"--storage {storage} has {free // 2**20} MiB free, and at least {LEAST_FREE_BYTES // 2**20} MiB "
            "are needed for checkpoints: free some, or choose another --storage"
        )


def _writable(place: Path) -> bool:
    """Whether a file can be made in `place`: permissions alone do not tell of a read-only disk."""
    if not os.access(place, os.W_OK | os.X_OK):
        return False
    try:
        with tempfile.TemporaryFile(dir=place):
            return True
    except OSError:
        return False


def _free_name(settings: Settings, space: Space, dataset: Dataset) -> str:
    data = _as_name(Path(dataset.name).name.split(".")[0]) or "data"
    stem = f"{_as_name(space.name.rsplit('.', 1)[-1]) or 'space'}-{data}-{time.strftime('%Y%m%d-%H%M%S')}"
    name, count = stem, 1
    while _is_there(run_folder(settings.storage, name)):
        count += 1
        name = f"{stem}-{count}"
    return name


def _as_name(text: str) -> str:
    """What of `text` a run's name may hold, see `formats.check_run_name`."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", text).lstrip("._-")[:30]
