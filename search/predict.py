"""`python -m search.predict results/NAME IMAGE...`: the classes of images. Needs `best/` alone, no study."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TextIO

import tyro

from search.command_line import fail
from search.formats import printable
from search.settings import UsageError

if TYPE_CHECKING:
    from search.prediction import Prediction
    from search.results import RunFolder
    from trainables.classifier import Classifier

PROG = "python -m search.predict"
INTERRUPTED = 130
MODEL_FILES = ("config.json", "model.safetensors")


@dataclass(frozen=True, kw_only=True)
class PredictOptions:
    """Classify images with the best network of a run. What is no image is named on standard error, the
    others are still classified, and the exit status is 1."""

    run: tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="RUN")]]
    """Folder of the run, such as results/NAME or s3://bucket/runs/NAME, or its best/ folder."""
    images: tyro.conf.Positional[Annotated[tuple[str, ...], tyro.conf.arg(metavar="IMAGE...")]]
    """Files, folders with all that is below, or patterns such as 'photos/**/*.jpg'."""
    top: int = 1
    """How many classes to name, the most probable first."""
    format: Literal["table", "json", "csv"] = "table"
    """What to write."""
    output: Path | None = None
    """File to write; None is standard output."""
    show: Path | None = None
    """Draw the images, at most 60, with their labels into this file, such as out.png; also the true label
    where an image lies in a folder called like a class."""
    networks: str | None = None
    """Module with networks of your own that the run was made with, such as small_space; several have commas
    between. No other code runs because a run names it."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """What the network runs on; auto is the GPU if there is one."""


class _Complaints:
    """Lines on standard error about what cannot be used, counted."""

    count = 0

    def __call__(self, line: str) -> None:
        self.count += 1
        print(f"{PROG}: {printable(line)}", file=sys.stderr)


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, classify, write; returns the exit status: 1 where something was no image."""
    options = tyro.cli(PredictOptions, args=argv, prog=PROG)
    complaints = _Complaints()
    try:
        _predict(options, complaints)
    except BrokenPipeError:
        # whoever read this has seen enough; Python would complain when it flushes at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except ValueError as error:
        return fail(error, PROG)
    except KeyboardInterrupt:
        print(f"{PROG}: interrupted", file=sys.stderr)
        return INTERRUPTED
    return 1 if complaints.count else 0


def _predict(options: PredictOptions, complaints: _Complaints) -> None:
    from search.copies import opened

    with opened(options.run, ("best",)) as run:
        _predict_with(_model_folder(run), options, complaints)


def _predict_with(folder: Path, options: PredictOptions, complaints: _Complaints) -> None:
    if not options.images:
        raise UsageError("give images to classify: files, folders or patterns")
    if options.top < 1:
        raise UsageError(f"--top must be at least 1, but is {options.top}")
    if options.show is not None:
        from search.gallery import check_sheet

        check_sheet(options.show)
    from search.image_files import find_images
    from search.prediction import predictions, written
    from trainables.device import needs_room, pick_device

    device = pick_device(options.device)
    classifier = _load(folder, options)
    found = predictions(classifier, find_images(options.images, complaints), complaints)
    shown: list[Prediction] = []
    with needs_room(device), _opened(options.output) as file:
        classifier.model.to(device)
        kept = _keep(found, shown) if options.show is not None else found
        for text in written(options.format, kept, classifier.class_names, options.top):
            file.write(text)
    if options.show is not None:
        if not shown:
            complaints(f"--show {options.show}: there is no image to draw")
            return
        _show(shown, classifier, options.show)


def _model_folder(run: RunFolder) -> Path:
    """The run's folder itself, or best/ in it. Raises UsageError where neither holds a network, before torch
    is imported.
    """
    path = run.path
    for folder in (path, run.best):
        if any((folder / name).is_file() for name in MODEL_FILES):
            return folder
    missing = "holds no trained network" if path.exists() else "does not exist"
    raise UsageError(
        f"{run.location} {missing}: give a finished run, such as results/NAME, or its best/ folder"
    )


def _load(folder: Path, options: PredictOptions) -> Classifier:
    from trainables.classifier import load_classifier

    if options.networks is not None:
        from spaces import load_networks

        load_networks(options.networks)
    try:
        classifier = load_classifier(folder)
    except OSError as error:
        raise UsageError(f"{folder} cannot be read: {error}") from error
    classes = len(classifier.class_names)
    if options.top > classes:
        raise UsageError(f"--top must be at most {classes}, the number of classes, but is {options.top}")
    return classifier


@contextmanager
def _opened(path: Path | None) -> Iterator[TextIO]:
    """Standard output, or a new file. Raises UsageError where that cannot be written."""
    if path is None:
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")  # names of files may be no text at all
        yield sys.stdout
        sys.stdout.flush()
        return
    try:
        with path.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file:
            yield file
    except OSError as error:
        raise UsageError(f"--output {path} cannot be written: {error.strerror}") from error


def _keep(found: Iterator[Prediction], shown: list[Prediction]) -> Iterator[Prediction]:
    from search.gallery import MOST

    for count, one in enumerate(found):
        if count < MOST:
            shown.append(one)
        elif count == MOST:
            print(f"{PROG}: --show draws the first {MOST} images", file=sys.stderr)
        yield one


def _show(shown: Sequence[Prediction], classifier: Classifier, path: Path) -> None:
    from search.gallery import draw_sheet, read_picture

    pictures = []
    for one in shown:
        ((index, probability),) = one.best(1)
        names = classifier.class_names
        pictures.append(read_picture(one.path, names[index], probability, names))
    draw_sheet(pictures, path)


if __name__ == "__main__":
    sys.exit(main())
