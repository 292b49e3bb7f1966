"""What a node of a cluster has to have in common with the driver's: versions, code and storage."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

NAMES = {"python": "Python", "ray": "Ray", "torch": "torch", "code": "the project's code"}


@contextmanager
def shared_word(folder: Path | str) -> Iterator[str]:
    """A word that names a file in a folder, which every node has to find there; gone at the end, with the
    folder where it was made for it and holds nothing else. Nothing is written to an object store.
    """
    word = secrets.token_hex(8)
    if isinstance(folder, str):
        yield word
        return
    folder = folder.absolute()
    made = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f".shared-{word}"
    file.touch()
    try:
        yield word
    finally:
        file.unlink(missing_ok=True)
        if made and not any(folder.iterdir()):
            folder.rmdir()


def one_line(error: BaseException) -> str:
    """What an exception says, for a message of one line."""
    return " ".join(str(error).split())[:400] or type(error).__name__


def misfit(host: str, storage: str, own: Mapping[str, Any], found: Mapping[str, Any]) -> str | None:
    """Why a node does not go with this one, by what `node_check.look` says on both; None if it does."""
    different = [
        f"{NAMES[name]} is {found[name]} there and {own[name]} here"
        for name in NAMES
        if found[name] != own[name]
    ]
    if different:
        return (
            f"node {host} does not fit this one: {'; '.join(different)}. Bring the nodes to one state "
            "(with `ray up` again, where that made them)"
        )
    if found["storage"] is not None:
        return (
            f"--storage {storage} is not what node {host} sees: {found['storage']}. Every node must read and "
            "write the same place: a shared disk, or s3://bucket/folder"
        )
    return None
