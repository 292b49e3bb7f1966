"""Decoded data sets on disk: a folder of .npy files for each, complete from the moment it has its name."""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from trainables.data.dataset import DataError, Part, PartName

FORMAT = 1
"""Counts up when the same source would be decoded to other pixels or files."""
_MANIFEST = "manifest.json"
_ABANDONED_AFTER = 24 * 3600


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a decoded data set is, beside its arrays."""

    class_names: tuple[str, ...]
    image_size: int
    parts: tuple[str, ...]
    """Those of train, val and test that there are."""


@dataclass(frozen=True, kw_only=True)
class Stored:
    """A decoded data set. Each part is files of its own, which are opened when the part is asked for."""

    folder: Path
    manifest: Manifest

    @property
    def class_names(self) -> tuple[str, ...]:
        """The name of each label."""
        return self.manifest.class_names

    def part(self, name: PartName) -> Part | None:
        """A read-only view of a part's files, or None if there is none. Raises DataError if damaged."""
        if name not in self.manifest.parts:
            return None
        try:
            images = np.load(self.folder / f"{name}_images.npy", mmap_mode="r", allow_pickle=False)
            labels = np.load(self.folder / f"{name}_labels.npy", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise _damaged(self.folder, error) from error
        return Part(images=images, labels=labels)


def key(identity: str, image_size: int | None) -> str:
    """The name of a decoded data set's folder; no `image_size`: decoded at the size that suits the images."""
    return f"{identity}-{image_size or 'own'}-v{FORMAT}"


def stored(data_dir: Path, name: str) -> Stored | None:
    """The decoded data set called `name`, or None. Raises DataError if it is damaged."""
    folder = data_dir / "decoded" / name
    try:
        content = json.loads((folder / _MANIFEST).read_text())
        content.update(class_names=tuple(content["class_names"]), parts=tuple(content["parts"]))
        return Stored(folder=folder, manifest=Manifest(**content))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise _damaged(folder, error) from error


def store(data_dir: Path, name: str, build: Callable[[Path], Manifest]) -> Stored:
    """Let `build` write the parts of a data set into a folder, and keep it under `name` once it is complete.

    Processes that build the same at the same time work in folders of their own; the first one's is kept.
    Raises DataError where `data_dir` cannot be written to.
    """
    decoded = data_dir / "decoded"
    try:
        decoded.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(decoded)
        with tempfile.TemporaryDirectory(
            prefix="partial-", dir=decoded, ignore_cleanup_errors=True
        ) as temporary:
            work = Path(temporary) / "work"
            work.mkdir()
            manifest = build(work)
            (work / _MANIFEST).write_text(json.dumps(asdict(manifest)))
            try:
                work.rename(decoded / name)
            except OSError:
                if not (decoded / name / _MANIFEST).is_file():
                    raise
    except OSError as error:
        raise DataError(
            f"decoded images cannot be written to {decoded}: {error.strerror or error}; "
            "choose another data folder"
        ) from error
    return Stored(folder=decoded / name, manifest=manifest)


def write_atomically(path: Path, content: bytes) -> None:
    """Write a small file that others see whole or not at all. Raises DataError where that is not possible."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
            file.write(content)
        Path(file.name).replace(path)
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error.strerror}; choose another data folder") from error


def _remove_abandoned(decoded: Path) -> None:
    # what a killed process leaves behind would fill the disk in time
    for folder in decoded.glob("partial-*"):
        if time.time() - folder.stat().st_mtime > _ABANDONED_AFTER:
            shutil.rmtree(folder, ignore_errors=True)


def _damaged(folder: Path, error: Exception) -> DataError:
    return DataError(
        f"the decoded images in {folder} are damaged ({error}); delete that folder to decode them again"
    )
