"""Checkpoints of a trial: everything needed to go on exactly, whole or not there at all.

A file a stint, `checkpoint-SSS.pt`: a worker that was cut off and still writes can only touch the file of
its own, earlier stint, and the highest number wins. On a disk a file comes by a temporary name and a rename,
in an object store by one request: neither needs a manifest that says what is complete.
"""

from __future__ import annotations

import errno
import hashlib
import json
import re
import warnings
from dataclasses import asdict
from pathlib import Path
from types import ModuleType
from typing import Any

from trainables.config import Task, TrialConfig, to_json
from trainables.place import Folder, Place, place_of
from trainables.storage import StorageError

_AWAY = (errno.ESTALE, errno.ETIMEDOUT, errno.EHOSTDOWN, errno.ENOTCONN)
"""What a shared disk says that is away, not damaged."""


def identity(config: TrialConfig, task: Task, data: str, code: str) -> str:
    """Hash of what a checkpoint belongs to: configuration, task, data fingerprint and code hash."""
    text = json.dumps([to_json(config), asdict(task), data, code], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def code_hash(*modules: ModuleType) -> str:
    """Hash of the sources of this package and of `modules`: what decides how a configuration trains."""
    digest = hashlib.sha256()
    own = Path(__file__).parent
    for path in sorted(own.rglob("*.py")):
        digest.update(path.relative_to(own).as_posix().encode() + path.read_bytes())
    for module in modules:
        # a package without __init__.py has no file
        source = Path(module.__file__).read_bytes() if module.__file__ else b""
        digest.update(module.__name__.encode() + source)
    return digest.hexdigest()[:16]


def save(folder: Folder, stint: int, state: dict[str, Any]) -> None:
    """Write the checkpoint of `stint`, whole or not at all; files of earlier stints go."""
    import torch

    place = place_of(folder)
    with place.new_file(f"checkpoint-{stint:03d}.pt") as file:
        torch.save(state, file)
    for number, name in _files(place, "pt", "tmp"):
        if number < stint:
            place.delete(name)


def load(folder: Folder, identity: str | None = None) -> dict[str, Any] | None:
    """The newest checkpoint in `folder`, on the CPU; None where there is none of this identity, if given.

    Only tensors, numbers, strings and containers of them are read (`weights_only`). A file that cannot be
    read is passed over with a warning: training some epochs again is better than a trial that cannot go on.
    Raises StorageError where an object store or a shared disk does not answer: what it has is not lost.
    """
    import torch

    place = place_of(folder)
    for _, name in sorted(_files(place, "pt"), reverse=True):
        try:
            with place.open(name) as file:
                state: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
            found = state["identity"]
        except (StorageError, MemoryError):
            raise
        except Exception as error:  # a damaged file can make torch raise nearly anything
            if isinstance(error, OSError) and error.errno in _AWAY:
                raise StorageError(f"{folder / name} cannot be read: {error.strerror}") from error
            warnings.warn(
                f"{folder / name} is unreadable, so an older checkpoint counts: {error!r:.200}", stacklevel=2
            )
            continue
        if identity in (None, found):
            return state
    return None


def holders(folder: Folder) -> set[str]:
    """Names of the folders right below this one that hold a checkpoint."""
    if isinstance(folder, Path):
        return {path.parent.name for path in folder.glob("*/checkpoint-*")}
    return {name.partition("/")[0] for name in folder.tree() if "/checkpoint-" in name}


def remove(folder: Folder) -> None:
    """Delete a trial's checkpoints; its other files stay."""
    place = place_of(folder)
    for _, name in _files(place, "pt", "tmp"):
        place.delete(name)


def _files(place: Place, *suffixes: str) -> list[tuple[int, str]]:
    """Stint and name of each checkpoint; what a user put beside them is none."""
    pattern = re.compile(rf"checkpoint-(\d+)\.({'|'.join(suffixes)})")
    return [(int(match[1]), name) for name in place.names() if (match := pattern.fullmatch(name))]
