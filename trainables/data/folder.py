"""Reading image files from a folder."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import NamedTuple

from trainables.data.dataset import DataError
from trainables.data.layout import PARTS, Layout, Place


class ImageFile(NamedTuple):
    """One image file, still encoded."""

    place: Place
    path: str
    """Its path in the source, for messages."""
    content: bytes


class _Listed(NamedTuple):
    place: Place
    path: str
    size: int
    changed: int


class ImageFolder:
    """A folder of images, listed and checked when it is made. Raises DataError."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.layout = Layout(str(root))
        try:
            self._files = sorted(self._list(), key=lambda file: file.path)
        except OSError as error:
            raise DataError(f"{error.filename or root} cannot be read: {error.strerror}") from error
        self.layout.check()
        self.total_bytes = sum(file.size for file in self._files)

    def identity(self, data_dir: Path) -> str:
        """Hex digits of all names, sizes and times of change."""
        lines = (f"{file.path}\0{file.size}\0{file.changed}\n" for file in self._files)
        digest = hashlib.blake2b(digest_size=16)
        for line in lines:
            digest.update(line.encode(errors="surrogateescape"))
        return digest.hexdigest()

    def files(self, advance: Callable[[int], None]) -> Generator[ImageFile]:
        """Each image file, read when it is asked for; `advance` is told the bytes read."""
        for file in self._files:
            try:
                content = (self._root / file.path).read_bytes()
            except OSError as error:
                raise DataError(f"{self._root / file.path} cannot be read: {error.strerror}") from error
            advance(file.size)
            yield ImageFile(file.place, file.path, content)

    def _list(self) -> Iterator[_Listed]:
        # three levels and no deeper: links to folders are followed, and cannot lead in circles
        for top in os.scandir(self._root):
            self.layout.place(top.name, folder=top.is_dir())
            if top.name not in PARTS or not top.is_dir():
                continue
            for class_folder in os.scandir(top):
                path = f"{top.name}/{class_folder.name}"
                self.layout.place(path, folder=class_folder.is_dir())
                if class_folder.name.startswith(".") or not class_folder.is_dir():
                    continue
                for entry in os.scandir(class_folder):
                    yield from self._listed(f"{path}/{entry.name}", entry)

    def _listed(self, path: str, entry: os.DirEntry[str]) -> Iterator[_Listed]:
        place = self.layout.place(path, folder=entry.is_dir())
        if place:
            facts = entry.stat()
            self.layout.check_file_size(path, facts.st_size)
            yield _Listed(place, path, facts.st_size, facts.st_mtime_ns)
