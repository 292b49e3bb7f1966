"""Scores of a classifier from its confusion matrix, computed where the predictions are."""

from __future__ import annotations

import torch


def add_to_confusion(confusion: torch.Tensor, labels: torch.Tensor, predictions: torch.Tensor) -> None:
    """Count a batch into `confusion`, int64 (classes, classes): row is the label, column the prediction.

    `labels` and `predictions` are int64 (batch,) on the same device; nothing waits for the device.
    """
    classes = confusion.shape[0]
    flat = labels * classes + predictions
    confusion.view(-1).index_add_(0, flat, torch.ones_like(flat))


def accuracy(confusion: torch.Tensor) -> torch.Tensor:
    """Share of images on the diagonal, float64 scalar."""
    return confusion.diagonal().sum() / confusion.sum().double()


def precision_recall_f1(confusion: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Precision, recall and F1 of each class, float64 (classes,); 0 where a ratio has no denominator.

    The same convention as scikit-learn's `zero_division=0`, which the tests compare with.
    """
    hits = confusion.diagonal().double()
    predicted = confusion.sum(0).double()
    labelled = confusion.sum(1).double()
    return (
        hits / predicted.clamp(min=1),
        hits / labelled.clamp(min=1),
        2 * hits / (predicted + labelled).clamp(min=1),
    )


def macro_f1(confusion: torch.Tensor) -> torch.Tensor:
    """Unweighted mean of F1 over the classes that occur as label or prediction, float64 scalar."""
    f1 = precision_recall_f1(confusion)[2]
    present = (confusion.sum(0) + confusion.sum(1)) > 0
    return (f1 * present).sum() / present.sum().clamp(min=1)
