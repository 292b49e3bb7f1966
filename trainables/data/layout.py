"""Where image files belong: train/<class>/<image>, and perhaps val/ and test/ of the same shape."""

from __future__ import annotations

from dataclasses import dataclass

from trainables.data.dataset import DataError
from trainables.data.names import LAYOUT

PARTS = ("train", "val", "test")
MAX_FILE_BYTES = 256 * 2**20
_CLUTTER = frozenset({"__MACOSX", "Thumbs.db", "desktop.ini"})
_NOT_VAL = frozenset({"valid", "validation"})


@dataclass(frozen=True, slots=True)
class Place:
    """Where one image file belongs."""

    part: str
    class_name: str
    file_name: str


def is_clutter(name: str) -> bool:
    """Whether a file or folder of this name is hidden, or left behind by an operating system."""
    return name.startswith(".") or name in _CLUTTER


class Layout:
    """What is learnt of a source, path by path, and whether it makes a data set in the end.

    Errors carry the source's path in front. A data set may lie one folder down, as it does in many archives.
    """

    def __init__(self, source: str) -> None:
        self._source = source
        self._images: dict[str, dict[str, int]] = {}
        self._top: list[str] | None = None
        self._not_val = ""

    def place(self, path: str, *, folder: bool) -> Place | None:
        """Where the image file `path` belongs; None for folders, and for files that are not part of the data.

        Hidden files and what operating systems leave behind are not part of the data, nor is what lies beside
        train/, val/ and test/. Raises DataError for a path inside of these that fits nowhere.
        """
        steps = [step for step in path.split("/") if step not in ("", ".")]
        if path.startswith("/") or ".." in steps:
            raise self._error(f"{path} points outside of the archive; pack it with relative paths")
        if not steps or any(is_clutter(step) for step in steps):
            return None
        top = [] if steps[0] in PARTS else steps[:1]
        inner = steps[len(top) :]
        if not inner or inner[0] not in PARTS:
            self._not_val = next((step for step in steps[:2] if step in _NOT_VAL), self._not_val)
            return None
        if self._top is None:
            self._top = top
        if self._top != top:
            raise self._error(
                f"both {path} and {'/'.join([*self._top, 'train'])} may be meant; keep one data set"
            )
        return self._place_in_part(path, inner, folder)

    def _place_in_part(self, path: str, inner: list[str], folder: bool) -> Place | None:
        if folder and len(inner) > 2:
            raise self._error(f"{path} is a folder in a class folder; expected {LAYOUT}")
        if not folder and len(inner) != 3:
            raise self._error(f"{path} is not in a class folder; expected {LAYOUT}")
        classes = self._images.setdefault(inner[0], {})
        if len(inner) > 1:
            classes[inner[1]] = classes.get(inner[1], 0) + (not folder)
        return None if folder else Place(*inner)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Sorted names of the training folders."""
        return tuple(sorted(self._images.get("train", {})))

    def check(self) -> None:
        """Raise DataError unless all paths together make a data set.

        Every class needs images in train/ and, where there is a val/, in val/, or the score would not see it.
        A class without test images is allowed.
        """
        train = self._images.get("train")
        if not train:
            raise self._error(f"no train/ folder with classes in it; expected {LAYOUT}")
        if len(train) < 2:
            raise self._error(f"only one class, train/{self.class_names[0]}; at least 2 are needed")
        if self._not_val and "val" not in self._images:
            raise self._error(f"{self._not_val}/ would be ignored; rename it to val/")
        for name in self.class_names:
            try:
                name.encode()
            except UnicodeEncodeError as error:
                raise self._error(f"the name of the folder train/{name!r} is not UTF-8; rename it") from error
        for part, classes in self._images.items():
            unknown = sorted(classes.keys() - train.keys())
            if unknown:
                raise self._error(
                    f"{part}/{unknown[0]} is no class of train/; rename it, or add train/{unknown[0]}"
                )
            empty = sorted(name for name, count in classes.items() if count == 0)
            if empty:
                raise self._error(f"{part}/{empty[0]} holds no images; add some, or remove the folder")
            if not classes:
                raise self._error(f"{part}/ holds no images; add some, or remove the folder")
        missing = sorted(train.keys() - self._images.get("val", train).keys())
        if missing:
            raise self._error(f"val/ has no images of {missing[0]}; add some, or remove val/ to split train/")

    def check_file_size(self, path: str, size: int) -> None:
        """Raise DataError for a file of `size` bytes that no image of a sensible size needs."""
        if size < 0:
            raise self._error(f"{path} has a size of {size} bytes; pack the archive again")
        if size > MAX_FILE_BYTES:
            limit = MAX_FILE_BYTES // 2**20
            raise self._error(f"{path} has {size // 2**20} MiB, more than {limit} MiB; remove it")

    def _error(self, message: str) -> DataError:
        return DataError(f"{self._source}: {message}")
