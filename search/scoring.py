"""The figures of a classifier, from what it says of images whose classes are known."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

TOP_K = (1, 3, 5)
CONFIDENCE = 0.95
CALIBRATION_BINS = 15
MOST_CONFUSED = 10

Labels = npt.NDArray[np.int64]
Probabilities = npt.NDArray[np.floating[Any]]


def score(labels: Labels, probabilities: Probabilities, class_names: Sequence[str]) -> dict[str, Any]:
    """Every figure of a model, as JSON types: numbers are finite, or None.

    labels: (images,), at least one; probabilities: (images, classes), rows that sum to 1. Ratios are 0 where
    they have no denominator. `precision`, `recall` and `f1` are unweighted means over the classes that occur
    as label or prediction; `confusion` has a row a true class; `loss` is in nats. A probability that is no
    number counts as 0, and then there is no loss and no calibration error.
    """
    from scipy.stats import binomtest
    from sklearn import metrics

    classes = np.arange(len(class_names))
    finite = bool(np.isfinite(probabilities).all())
    probabilities = np.nan_to_num(probabilities.astype(np.float64), posinf=0.0, neginf=0.0)
    predicted = probabilities.argmax(1)
    hits = int((predicted == labels).sum())
    interval = binomtest(hits, len(labels)).proportion_ci(CONFIDENCE, "wilson")
    confusion = metrics.confusion_matrix(labels, predicted, labels=classes)
    precision, recall, f1, _ = metrics.precision_recall_fscore_support(
        labels, predicted, average="macro", zero_division=0
    )
    return {
        "accuracy": hits / len(labels),
        "accuracy_low": float(interval.low),
        "accuracy_high": float(interval.high),
        "loss": _log_loss(labels, probabilities) if finite else None,
        "top_k": _top_k(labels, probabilities, hits),
        "precision": float(precision),
        "recall": float(recall),
        "f1": float(f1),
        "per_class": _per_class(labels, predicted, class_names),
        "confusion": confusion.tolist(),
        "confused": confused_pairs(confusion, class_names),
        "calibration_error": calibration_error(labels, probabilities) if finite else None,
    }


def calibration_error(labels: Labels, probabilities: Probabilities, bins: int = CALIBRATION_BINS) -> float:
    """Expected calibration error, 0 to 1: how far confidence is from accuracy, on average over images.

    Images are binned by the probability of the predicted class, in `bins` of equal width, closed above
    (Naeini et al., 2015; Guo et al., 2017, "On Calibration of Modern Neural Networks").
    """
    confidence = probabilities.max(1)
    right = probabilities.argmax(1) == labels
    # equal to |accuracy - confidence| of each bin, weighted by its share of the images
    place = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    gaps = np.bincount(place, weights=right - confidence, minlength=bins)
    return float(np.abs(gaps).sum() / len(labels))


def confused_pairs(confusion: npt.NDArray[np.int64], class_names: Sequence[str]) -> list[dict[str, Any]]:
    """The pairs of classes that are mistaken most often, at most 10; of equal ones the first in the matrix.

    confusion: (classes, classes), a row a true class.
    """
    mistakes = confusion * ~np.eye(len(confusion), dtype=bool)
    order = np.argsort(-mistakes, axis=None, kind="stable")[:MOST_CONFUSED]
    pairs = [divmod(int(place), len(confusion)) for place in order]
    return [
        {"true": class_names[true], "predicted": class_names[said], "images": int(mistakes[true, said])}
        for true, said in pairs
        if mistakes[true, said]
    ]


def deviation(values: Sequence[float]) -> float | None:
    """Standard deviation of a sample; None where there is but one value."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else None


def _log_loss(labels: Labels, probabilities: Probabilities) -> float:
    from sklearn.metrics import log_loss

    # rows of float32 sum to 1 but for rounding, which scikit-learn warns of
    rows = probabilities / probabilities.sum(1, keepdims=True)
    loss = float(log_loss(labels, rows, labels=np.arange(rows.shape[1])))
    assert math.isfinite(loss)
    return loss


def _top_k(labels: Labels, probabilities: Probabilities, hits: int) -> dict[str, float]:
    from sklearn.metrics import top_k_accuracy_score

    classes = np.arange(probabilities.shape[1])
    # the first is counted, not asked for: scikit-learn breaks ties in another way than argmax
    return {"1": hits / len(labels)} | {
        str(k): float(top_k_accuracy_score(labels, probabilities, k=k, labels=classes))
        for k in TOP_K
        if 1 < k < len(classes)
    }


def _per_class(labels: Labels, predicted: Labels, class_names: Sequence[str]) -> list[dict[str, Any]]:
    from sklearn.metrics import precision_recall_fscore_support

    columns = precision_recall_fscore_support(
        labels, predicted, labels=np.arange(len(class_names)), zero_division=0
    )
    return [
        {
            "class": name,
            "images": int(images),
            "precision": float(precision),
            "recall": float(recall),
            "f1": float(f1),
        }
        for name, precision, recall, f1, images in zip(class_names, *columns, strict=True)
    ]
