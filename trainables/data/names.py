"""Which data a name means, and a cheap refusal of a name that means none."""

from __future__ import annotations

import difflib
import os
from pathlib import Path

from trainables.data.dataset import DataError

NAMES = ("auto", "cifar10", "digits")
ARCHIVE_ENDINGS = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.xz", ".tar.bz2")
LAYOUT = "train/<class>/<image>, and perhaps val/ and test/ of the same shape"


def default_data_dir() -> Path:
    """Where downloads and decoded images are kept unless a caller says otherwise."""
    import platformdirs

    return Path(platformdirs.user_cache_dir("classifier-search")) / "data"


def check_name(name: str, data_dir: Path | None = None) -> None:
    """Raise DataError if `name` or `data_dir` cannot be right, without reading any data.

    A name is `auto`, `cifar10`, `digits`, or the path of a folder or an archive; write `./digits` for a
    folder that is called like a data set. What an archive holds is only found out by `load_dataset`.
    """
    if data_dir is not None and data_dir.expanduser().exists() and not data_dir.expanduser().is_dir():
        raise DataError(f"the data folder {data_dir} is a file; name a folder")
    if name not in NAMES:
        try:
            _check_path(name)
        except OSError as error:
            raise DataError(f"{name} cannot be read: {error.strerror}") from error


def resolve(name: str) -> Path:
    """The absolute path of a data set that is a folder or an archive. Raises DataError for `~nobody`."""
    try:
        return Path(name).expanduser().resolve()
    except RuntimeError as error:
        raise DataError(f"{name} cannot be found: {error}") from error


def _check_path(name: str) -> None:
    path = resolve(name)
    if not name or not (path.exists() or _looks_like_path(name)):
        raise DataError(
            f"no data set is called {name!r}{_nearest(name)}; choose {', '.join(NAMES)} or a path"
        )
    if not path.exists():
        raise DataError(f"no such file or folder: {path}; expected a folder or an archive with {LAYOUT}")
    if path.is_dir():
        _check_folder(path)
    elif not path.name.lower().endswith(ARCHIVE_ENDINGS):
        raise DataError(f"{path} is no archive of a known kind; expected {', '.join(ARCHIVE_ENDINGS)}")
    elif not path.is_file():
        raise DataError(f"{path} is neither a file nor a folder")
    elif not os.access(path, os.R_OK):
        raise DataError(f"{path} may not be read by this user")


def _looks_like_path(name: str) -> bool:
    return (
        name.startswith(("~", ".")) or "/" in name or os.sep in name or name.lower().endswith(ARCHIVE_ENDINGS)
    )


def _nearest(name: str) -> str:
    near = difflib.get_close_matches(name.lower(), NAMES, n=1, cutoff=0.5)
    return f" (did you mean {near[0]}?)" if near else ""


def _check_folder(root: Path) -> None:
    if not (root / "train").is_dir():
        inner = [child for child in root.iterdir() if (child / "train").is_dir()]
        hint = f"; did you mean {inner[0]}?" if len(inner) == 1 else ""
        raise DataError(f"{root} has no train/ folder; expected {LAYOUT}{hint}")
    classes = [child for child in (root / "train").iterdir() if child.is_dir() and child.name[0] != "."]
    if len(classes) < 2:
        raise DataError(f"{root}/train has {len(classes)} class folders; at least 2 are needed: {LAYOUT}")
