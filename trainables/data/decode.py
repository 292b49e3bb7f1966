"""A folder or an archive of image files to a decoded data set on disk, in chunks, with all processors."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from trainables.data import cache
from trainables.data.archive import ImageArchive
from trainables.data.dataset import DataError, ProgressFactory
from trainables.data.folder import ImageFile, ImageFolder
from trainables.data.images import SizesDifferError, UnreadableImageError, decode, shorter_side
from trainables.data.layout import PARTS, Place
from trainables.data.writer import PartWriter

LARGEST_OWN_SIZE = 64
_CHUNK_FILES = 64
_CHUNK_BYTES = 16 * 2**20
# Below this, Python's own work for an image outweighs the decoder's, and threads only wait for each other.
_SMALL_FILE_BYTES = 8 * 2**10
_NAMED = 5


class _Decoded(NamedTuple):
    places: list[Place]
    images: list[npt.NDArray[np.uint8]]
    unreadable: list[str]


def open_images(
    path: Path, data_dir: Path, image_size: int | None, progress: ProgressFactory
) -> cache.Stored:
    """The images under `path`, decoded to (image_size, image_size, 3) now or earlier.

    image_size: in pixels; None: the shorter side if all images share one of at most 64, otherwise 64.
    Raises DataError, with the first names and the number of all files that cannot be read.
    """
    source = ImageFolder(path) if path.is_dir() else ImageArchive(path)
    identity = source.identity(data_dir)
    own = cache.stored(data_dir, cache.key(identity, None))
    if own and image_size in (None, own.manifest.image_size):
        return own
    name = cache.key(identity, image_size)
    return cache.stored(data_dir, name) or cache.store(
        data_dir, name, lambda folder: _build(source, folder, image_size, path, progress)
    )


def _build(
    source: ImageFolder | ImageArchive,
    folder: Path,
    image_size: int | None,
    path: Path,
    progress: ProgressFactory,
) -> cache.Manifest:
    try:
        return _write_parts(source, folder, image_size, path, progress)
    except SizesDifferError:
        # only now is it known, and an archive cannot be asked beforehand
        return _write_parts(source, folder, LARGEST_OWN_SIZE, path, progress)


def _write_parts(
    source: ImageFolder | ImageArchive,
    folder: Path,
    image_size: int | None,
    path: Path,
    progress: ProgressFactory,
) -> cache.Manifest:
    unreadable: list[str] = []
    with ExitStack() as stack:
        bar = stack.enter_context(progress(f"Decoding {path.name}", source.total_bytes))
        files = stack.enter_context(closing(source.files(bar.advance)))
        writers: dict[str, PartWriter] = {}
        size = 0
        for decoded in _decode_all(files, image_size):
            unreadable += decoded.unreadable
            for place, image in zip(decoded.places, decoded.images, strict=True):
                if place.part not in writers:
                    size = len(image)
                    writers[place.part] = stack.enter_context(PartWriter(folder, place.part, size))
                writers[place.part].add(place, image)
        if unreadable:
            raise DataError(_unreadable(path, unreadable))
        class_names = source.layout.class_names
        for writer in writers.values():
            writer.finish(class_names, path)
    parts = tuple(part for part in PARTS if part in writers)
    return cache.Manifest(class_names=class_names, image_size=size, parts=parts)


def _decode_all(files: Iterable[ImageFile], image_size: int | None) -> Iterator[_Decoded]:
    only_side = None
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with ThreadPoolExecutor(processors) as pool:
        waiting: deque[Future[_Decoded]] = deque()
        for chunk in _chunks(files):
            if image_size is None:
                image_size, only_side = _own_size(chunk)
            if sum(len(file.content) for file in chunk) < _SMALL_FILE_BYTES * len(chunk):
                yield _decode_chunk(chunk, image_size, only_side)
                continue
            waiting.append(pool.submit(_decode_chunk, chunk, image_size, only_side))
            # no more than this is in memory at a time, however large the source
            if len(waiting) > 2 * processors:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _chunks(files: Iterable[ImageFile]) -> Iterator[list[ImageFile]]:
    chunk: list[ImageFile] = []
    total = 0
    for file in files:
        chunk.append(file)
        total += len(file.content)
        if len(chunk) == _CHUNK_FILES or total >= _CHUNK_BYTES:
            yield chunk
            chunk, total = [], 0
    if chunk:
        yield chunk


def _own_size(chunk: list[ImageFile]) -> tuple[int, int | None]:
    # the size for all images, and the shorter side that they must share for it
    for file in chunk:
        try:
            side = shorter_side(file.content)
        except UnreadableImageError:
            continue  # decoding reports it
        return (side, side) if side < LARGEST_OWN_SIZE else (LARGEST_OWN_SIZE, None)
    return LARGEST_OWN_SIZE, None


def _decode_chunk(chunk: list[ImageFile], size: int, only_side: int | None) -> _Decoded:
    decoded = _Decoded([], [], [])
    for file in chunk:
        try:
            image = decode(file.content, size, only_side=only_side)
        except UnreadableImageError as error:
            reason = " ".join(str(error).split())  # in one line, whatever the reader wrote
            decoded.unreadable.append(f"{file.path} ({reason})")
        else:
            decoded.places.append(file.place)
            decoded.images.append(image)
    return decoded


def _unreadable(source: Path, names: list[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    listed = ", ".join(sorted(names)[:_NAMED])
    count = f"{len(names)} files are not images" if len(names) > 1 else "1 file is not an image"
    return f"{source}: {count} that can be read: {listed}{more}; replace or remove what is named"
