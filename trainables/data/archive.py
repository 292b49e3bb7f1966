"""Reading image files from an archive, member by member and in memory: nothing is ever unpacked to disk."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import json
import lzma
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Generator
from pathlib import Path
from typing import IO, Any

from trainables.data.cache import write_atomically
from trainables.data.dataset import DataError
from trainables.data.folder import ImageFile
from trainables.data.layout import MAX_FILE_BYTES, Layout

_DAMAGE = (
    tarfile.TarError,
    zipfile.BadZipFile,
    lzma.LZMAError,
    zlib.error,
    EOFError,
    NotImplementedError,  # by zipfile, of a format that is newer than it
    # of headers that tarfile does not check: impossible numbers, names of names of names
    OverflowError,
    ValueError,
    RecursionError,
)
_BUFFER = 2**20


class ImageArchive:
    """A zip or tar file of images; its layout is complete, and checked, once all files have been read."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.layout = Layout(str(path))
        self.total_bytes = path.stat().st_size

    def identity(self, data_dir: Path) -> str:
        """Hex digits of the content, noted in `data_dir`: an archive that has not changed is read once."""
        facts = self._path.stat()
        seen = {"path": str(self._path), "size": facts.st_size, "changed": facts.st_mtime_ns}
        name = hashlib.blake2b(str(self._path).encode(errors="surrogateescape"), digest_size=16).hexdigest()
        note = data_dir / "decoded" / "archives" / f"{name}.json"
        try:
            known = json.loads(note.read_text())
            if known["seen"] == seen:
                return str(known["identity"])
        except (OSError, ValueError, KeyError):
            pass  # no note, or one that cannot be read: the archive itself tells
        with self._path.open("rb") as file:
            identity = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
        write_atomically(note, json.dumps({"seen": seen, "identity": identity}).encode())
        return identity

    def files(self, advance: Callable[[int], None]) -> Generator[ImageFile]:
        """Each image file in the archive's order; `advance` is told the bytes of the archive gone through."""
        self.layout = Layout(str(self._path))
        try:
            with self._path.open("rb") as raw:
                yield from (self._zip if self._path.suffix.lower() == ".zip" else self._tar)(raw, advance)
        except DataError:
            raise
        except _DAMAGE as error:
            raise self._damaged(str(error)) from error
        except OSError as error:  # bz2 reports damage as an OSError without a number
            raise self._damaged(error.strerror or str(error)) from error
        self.layout.check()

    def _zip(self, raw: IO[bytes], advance: Callable[[int], None]) -> Generator[ImageFile]:
        with zipfile.ZipFile(raw) as archive:
            placed = []
            for member in archive.infolist():
                path = member.filename.replace("\\", "/")  # as some Windows programs write them
                self.layout.check_file_size(path, member.file_size)
                place = self.layout.place(path, folder=path.endswith("/"))
                if place:
                    self._check_zipped(path, member)
                    placed.append((place, path, member))
            self.layout.check()  # a zip file begins with its table of contents: no need to decode it first
            for place, path, member in placed:
                with archive.open(member) as file:
                    # no more than it is said to have, whatever it unpacks to
                    yield ImageFile(place, path, file.read(member.file_size))
                advance(member.compress_size)

    def _check_zipped(self, path: str, member: zipfile.ZipInfo) -> None:
        if stat.S_ISLNK(member.external_attr >> 16):
            raise self._link(path)
        if member.flag_bits & 1:
            raise DataError(f"{self._path} is protected by a password; pack it without one")
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise DataError(
                f"{self._path}: {path} is packed by method {member.compress_type}, not by deflate (8) as is "
                "usual; pack it again"
            )

    def _tar(self, raw: IO[bytes], advance: Callable[[int], None]) -> Generator[ImageFile]:
        # Not tarfile's own decompression: its streaming mode takes a truncated archive for a complete one.
        plain = _decompressed(raw)
        done = 0
        with tarfile.open(fileobj=plain, mode="r:") as archive:
            while (member := archive.next()) is not None:
                # or it remembers every member of a huge archive
                archive.members.clear()  # type: ignore[attr-defined]  # in every Python, but not in the stubs
                self.layout.check_file_size(member.name, member.size)
                place = self.layout.place(member.name, folder=member.isdir())
                if place:
                    file = archive.extractfile(member) if member.isreg() else None
                    if file is None:
                        raise self._link(member.name)
                    yield ImageFile(place, member.name, file.read())
                advance(raw.tell() - done)
                done = raw.tell()
            # tarfile takes a broken header for the end, which is in truth a block of zeros
            plain.seek(archive.offset)
            if plain.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                raise self._damaged("it ends early")
            plain.read(_BUFFER)  # the check sum of a compressed file comes last

    def _damaged(self, reason: str) -> DataError:
        return DataError(
            f"{self._path} is damaged or no archive of its kind ({reason}); fetch or pack it again"
        )

    def _link(self, path: str) -> DataError:
        return DataError(f"{self._path}: {path} is a link or a special file; pack the image itself")


def _decompressed(raw: IO[bytes]) -> io.BufferedReader:
    # by its first bytes, for many a .tar.gz is not compressed at all
    start = raw.read(6)
    raw.seek(0)
    file: Any = raw
    if start.startswith(b"\x1f\x8b"):
        file = gzip.GzipFile(fileobj=raw)
    elif start.startswith(b"BZh"):
        file = bz2.BZ2File(raw)
    elif start == b"\xfd7zXZ\x00":
        file = lzma.LZMAFile(raw)  # noqa: SIM115  nothing to close but `raw`, which is the caller's
    return _Plain(file, _BUFFER)


class _Plain(io.BufferedReader):
    """What a tar file holds. A header may claim any length for a name, and tarfile would read it whole."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or not 0 <= size <= MAX_FILE_BYTES:
            raise tarfile.ReadError(f"a part of {size} bytes")
        return super().read(size)
