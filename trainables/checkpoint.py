"""Checkpoints of a trial: everything needed to go on exactly, whole or not there at all.

A file a stint, `checkpoint-SSS.pt`: a worker that was cut off and still writes can only touch the file of
its own, earlier stint, and the highest number wins.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import warnings
from dataclasses import asdict
from pathlib import Path
from types import ModuleType
from typing import Any

from trainables.config import Task, TrialConfig, to_json


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


def save(folder: Path, stint: int, state: dict[str, Any]) -> None:
    """Write the checkpoint of `stint`: a temporary name, then a rename; files of earlier stints go."""
    import torch

    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"checkpoint-{stint:03d}.pt"
    temporary = target.with_suffix(".tmp")
    try:
        with temporary.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)  # there only if the disk is full, and then in the way
    for number, path in _files(folder, "pt") + _files(folder, "tmp"):
        if number < stint:
            path.unlink(missing_ok=True)


def load(folder: Path, identity: str | None = None) -> dict[str, Any] | None:
    """The newest checkpoint in `folder`, on the CPU; None where there is none of this identity, if given.

    Only tensors, numbers, strings and containers of them are read (`weights_only`). A file that cannot be
    read is passed over with a warning: training some epochs again is better than a trial that cannot go on.
    """
    import torch

    for _, path in sorted(_files(folder, "pt"), reverse=True):
        try:
            state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
            found = state["identity"]
        except Exception as error:  # a damaged file can make torch raise nearly anything
            warnings.warn(
                f"{path} is unreadable, so an older checkpoint counts: {error!r:.200}", stacklevel=2
            )
            continue
        if identity in (None, found):
            return state
    return None


def remove(folder: Path) -> None:
    """Delete a trial's checkpoints; its other files stay."""
    for _, path in _files(folder, "pt") + _files(folder, "tmp"):
        path.unlink(missing_ok=True)


def _files(folder: Path, suffix: str) -> list[tuple[int, Path]]:
    """Stint and path of each checkpoint; what a user put beside them is none."""
    named = ((re.fullmatch(r"checkpoint-(\d+)", path.stem), path) for path in folder.glob(f"*.{suffix}"))
    return [(int(match[1]), path) for match, path in named if match]
