"""Checkpoints of a trial: everything needed to go on exactly, whole or not there at all.

A file a stint, `checkpoint-SSS.pt`: a worker that was cut off and still writes can only touch the file of
its own, earlier stint, and the highest number wins.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import os
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
        digest.update(inspect.getsource(module).encode())
    return digest.hexdigest()[:16]


def save(folder: Path, stint: int, state: dict[str, Any]) -> None:
    """Write the checkpoint of `stint`: a temporary name, then a rename; files of earlier stints go."""
    import torch

    folder.mkdir(parents=True, exist_ok=True)
    target = _path(folder, stint)
    temporary = target.with_suffix(".tmp")
    with temporary.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(target)
    for number, path in _existing(folder):
        if number < stint:
            path.unlink(missing_ok=True)


def load(folder: Path, identity: str | None = None) -> dict[str, Any] | None:
    """The newest checkpoint in `folder`, on the CPU; None where there is none of this identity, if given.

    Only tensors, numbers, strings and containers of them are read (`weights_only`).
    """
    import torch

    for _, path in sorted(_existing(folder), reverse=True):
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        if identity in (None, state.get("identity")):
            return state
    return None


def remove(folder: Path) -> None:
    """Delete a trial's checkpoints; its other files stay."""
    for _, path in _existing(folder):
        path.unlink(missing_ok=True)


def _path(folder: Path, stint: int) -> Path:
    return folder / f"checkpoint-{stint:03d}.pt"


def _existing(folder: Path) -> list[tuple[int, Path]]:
    return [(int(path.stem.split("-")[1]), path) for path in folder.glob("checkpoint-*.pt")]
