"""What the final models of a run are worth on images that no trial has seen: `evaluation.json`."""

from __future__ import annotations

import base64
import io
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Any

import numpy as np

from search.final import FinalModel, final_models
from search.held_out import read_held_out
from search.results import Results
from search.settings import UsageError
from trainables.data import Part, ProgressFactory

if TYPE_CHECKING:
    from trainables.classifier import Classifier

EVALUATION = "evaluation.json"
PICTURE = "confusion_matrix.png"
LARGEST_BATCH = 500
SAMPLES_RIGHT, SAMPLES_WRONG = 12, 24


def evaluate(
    results: Results,
    *,
    data_dir: Path | None = None,
    device: str = "auto",
    batch_size: int = LARGEST_BATCH,
    progress: ProgressFactory | None = None,
) -> dict[str, Any]:
    """Read the test part, try every final model on it, write `evaluation.json` and `confusion_matrix.png`.

    Returns what `evaluation.json` holds. Where the data set has no test part, it is the validation part and
    says so; models that were refitted on that part too are then replaced by those of the search.
    `batch_size`: images a pass, at most 500. Raises ValueError for what a user can put right.
    """
    from search.confusion_picture import draw_confusion
    from search.resume import saved_document
    from search.scoring import score
    from trainables.classifier import load_classifier
    from trainables.data.dataset import silent
    from trainables.device import needs_room, pick_device

    target = pick_device(device)
    models = models_to_evaluate(results)
    # a model that cannot be loaded costs no reading
    classifiers = [load_classifier(model.folder) for model in models]
    held_out = read_held_out(
        results, data_dir=data_dir, image_size=classifiers[0].task.image_size, progress=progress
    )
    refitted = models[0].folder != results.folder.best
    if refitted and held_out.part == "validation":
        models, classifiers = _as_searched(results, models, classifiers[0])
    rows, samples = [], []
    for model, classifier in zip(models, classifiers, strict=True):
        with needs_room(target):
            classifier.model.to(target)
        probabilities, speed = _probabilities(
            classifier, held_out.images.images, batch_size, model, progress or silent
        )
        scores = score(held_out.images.labels, probabilities, classifier.class_names)
        rows.append(
            {**_identity(results, model), **scores, "images_per_second": speed, **_size(model, classifier)}
        )
        if model is models[0]:
            seed = saved_document(results.folder)["settings"]["seed"]
            samples = _samples(held_out.images, probabilities, classifier.class_names, seed)
        classifier.model.to("cpu")
    attributes = results.study.user_attrs
    document = {
        **{name: attributes.get(name, "") for name in ("run", "dataset", "note")},
        "part": held_out.part,
        "images": len(held_out.images),
        "class_names": list(classifiers[0].class_names),
        "confirmed": refitted,
        "read": {"count": len(held_out.reads), "times": held_out.reads},
        "models": rows,
        "winner": _winner(rows),
        "samples": samples,
    }
    try:
        results.folder.write_json(EVALUATION, document)
        draw_confusion(document, results.folder.path / PICTURE)
    except OSError as error:
        raise UsageError(f"{results.folder.location} cannot be written: {error.strerror or error}") from error
    return document


def models_to_evaluate(results: Results) -> list[FinalModel]:
    """The final models, those of the winner first. Raises UsageError where the run is not that far."""
    from search.command_line import resume_command
    from search.resume import DriverLock

    DriverLock(results.folder).check_free()
    path, go_on = results.folder.location, f"go on with `{resume_command(results.folder.location)}`"
    if "complete" not in set(results.trials["outcome"]):
        raise UsageError(f"{path} has no complete trial, so there is nothing to evaluate: {go_on}")
    models = final_models(results)
    if not any(model.winner for model in models):
        raise UsageError(f"{path} has no final model, for it was cut off before its end: {go_on}")
    return models


def _as_searched(
    results: Results, models: Sequence[FinalModel], like: Classifier
) -> tuple[list[FinalModel], list[Classifier]]:
    """The same configurations as the search left them, trained on the training part alone."""
    from dataclasses import replace

    from trainables import checkpoint

    found: dict[int, tuple[FinalModel, Classifier]] = {}
    for model in models:
        state = None if model.trial in found else checkpoint.load(results.folder.trial(model.trial))
        if state is None:
            continue  # another seed of one that is there, or a baseline whose checkpoint is gone
        config = results.config_of(model.trial)
        network = config.model.build(like.task)
        network.load_state_dict(state["scored"])
        folder = results.folder.path / "trials" / f"{model.trial:05d}"
        found[model.trial] = replace(model, folder=folder), replace(like, model=network, config=config)
    if models[0].trial not in found:
        raise UsageError(
            f"{results.folder.location}: the data set has no test part, the final models were fitted on its "
            f"validation part too, and what trial {models[0].trial} was before that is gone: nothing is left "
            "to evaluate on; add a test/ folder and search anew"
        )
    kept, classifiers = zip(*found.values(), strict=True)
    return list(kept), list(classifiers)


def _probabilities(
    classifier: Classifier,
    images: np.ndarray,
    batch_size: int,
    model: FinalModel,
    progress: ProgressFactory,
) -> tuple[np.ndarray, float]:
    """Of each class, float32 (images, classes), and images a second."""
    import torch

    parts = []
    try:
        classifier.probabilities(images[:batch_size])  # the first pass prepares, and is not timed
        start = time.perf_counter()
        with progress(f"Evaluating {model.folder.name}", images.nbytes) as bar:
            for first in range(0, len(images), batch_size):
                batch = images[first : first + batch_size]
                parts.append(classifier.probabilities(batch))
                bar.advance(batch.nbytes)
    except torch.OutOfMemoryError as error:
        raise UsageError(
            f"--batch-size {batch_size} does not fit the memory of the GPU: give fewer"
        ) from error
    return np.concatenate(parts), len(images) / (time.perf_counter() - start)


def _identity(results: Results, model: FinalModel) -> dict[str, Any]:
    return {
        "folder": model.folder.relative_to(results.folder.path).as_posix(),
        "trial": model.trial,
        "baseline": model.baseline,
        "winner": model.winner,
    }


def _size(model: FinalModel, classifier: Classifier) -> dict[str, int]:
    file = model.folder / "model.safetensors"
    weights = classifier.model.state_dict().values()
    return {
        "parameters": sum(parameter.numel() for parameter in classifier.model.parameters()),
        "bytes": file.stat().st_size if file.is_file() else sum(weight.nbytes for weight in weights),
    }


def _winner(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    from search.scoring import deviation

    accuracies = [row["accuracy"] for row in rows if row["winner"]]
    return {
        "models": len(accuracies),
        "accuracy_mean": mean(accuracies),
        "accuracy_deviation": deviation(accuracies),
    }


def _samples(
    part: Part, probabilities: np.ndarray, class_names: Sequence[str], seed: int
) -> list[dict[str, Any]]:
    """Some images that were classified right, then some that were not, drawn by `seed`."""
    probabilities = np.nan_to_num(probabilities)
    predicted = probabilities.argmax(1)
    draw = np.random.default_rng(seed)
    chosen: list[int] = []
    for kind, most in ((predicted == part.labels, SAMPLES_RIGHT), (predicted != part.labels, SAMPLES_WRONG)):
        there = np.flatnonzero(kind)
        chosen += draw.permutation(there)[:most].tolist()
    return [
        {
            "true": class_names[part.labels[index]],
            "predicted": class_names[predicted[index]],
            "probability": float(probabilities[index].max()),
            "png": _png(part.images[index]),
        }
        for index in chosen
    ]


def _png(pixels: np.ndarray) -> str:
    """Base64 of a PNG file of (height, width, 3) uint8 pixels."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode("ascii")
