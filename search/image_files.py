"""Which image files are meant by files, folders and patterns."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from trainables.data.layout import is_clutter

Complain = Callable[[str], None]
"""Takes one line about something that cannot be used; the rest goes on."""


def find_images(words: Iterable[str], complain: Complain) -> Iterator[Path]:
    """Each file that `words` mean, in their order; of folders all files below, by name.

    Hidden files and what operating systems leave behind are passed over in folders. A pattern is one that no
    shell has expanded (`'photos/**/*.jpg'`); a file of that very name comes first.
    """
    for word in words:
        if os.path.lexists(word) or not glob.has_magic(word):
            matches = [word]
        else:
            matches = sorted(glob.glob(word, recursive=True))  # noqa: PTH207  Path.glob refuses an absolute pattern
            if not matches:
                complain(f"{word}: nothing matches")
            elif "**" in word:
                matches = [match for match in matches if not Path(match).is_dir()]
        for match in matches:
            yield from _files(Path(match), complain)


def _files(path: Path, complain: Complain) -> Iterator[Path]:
    if not os.path.isdir(path):  # noqa: PTH112  Path.is_dir raises for a name that is too long
        yield path
        return
    found = False
    for file in _below(path, complain, {os.path.realpath(path)}):
        found = True
        yield file
    if not found:
        complain(f"{path}: the folder holds no images")


def _below(folder: Path, complain: Complain, visited: set[str]) -> Iterator[Path]:
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        complain(f"{folder}: {error.strerror}")
        return
    for entry in entries:
        if is_clutter(entry.name):
            continue
        if not entry.is_dir():
            yield folder / entry.name
            continue
        real = os.path.realpath(entry.path)
        if real not in visited:  # links may lead in circles
            visited.add(real)
            yield from _below(folder / entry.name, complain, visited)
