import numpy as np
import pytest
import torch

from trainables import metrics


@pytest.fixture(scope="module")
def sklearn_metrics():
    return pytest.importorskip("sklearn.metrics")


def labels_and_predictions(seed: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Random ones; in two of three cases some classes are never labelled, or never predicted, or neither."""
    random = np.random.default_rng(seed)
    classes = int(random.integers(2, 12))
    count = int(random.integers(1, 200))
    known = random.permutation(classes)[: random.integers(1, classes + 1)]
    labels = random.choice(known, count)
    guesses = random.choice(random.permutation(classes)[: random.integers(1, classes + 1)], count)
    return labels, np.where(random.random(count) < random.random(), labels, guesses), classes


def confusion_of(labels: np.ndarray, predictions: np.ndarray, classes: int) -> torch.Tensor:
    confusion = torch.zeros(classes, classes, dtype=torch.int64)
    for part in np.array_split(np.arange(len(labels)), 3):  # in batches, one of them perhaps empty
        metrics.add_to_confusion(confusion, torch.tensor(labels[part]), torch.tensor(predictions[part]))
    return confusion


@pytest.mark.parametrize("seed", range(40))
def test_scores_equal_those_of_scikit_learn(seed, sklearn_metrics):
    labels, predictions, classes = labels_and_predictions(seed)
    confusion = confusion_of(labels, predictions, classes)
    names = list(range(classes))

    expected = sklearn_metrics.confusion_matrix(labels, predictions, labels=names)
    assert confusion.tolist() == expected.tolist()
    assert float(metrics.accuracy(confusion)) == sklearn_metrics.accuracy_score(labels, predictions)
    wanted = sklearn_metrics.precision_recall_fscore_support(
        labels, predictions, labels=names, zero_division=0
    )[:3]
    for got, want in zip(metrics.precision_recall_f1(confusion), wanted, strict=True):
        np.testing.assert_allclose(got.numpy(), want, atol=1e-12)
    # over the classes that occur, as scikit-learn does where it is not told the classes
    macro = sklearn_metrics.f1_score(labels, predictions, average="macro", zero_division=0)
    assert float(metrics.macro_f1(confusion)) == pytest.approx(macro, abs=1e-12)


def test_rows_of_the_confusion_matrix_are_labels():
    confusion = confusion_of(np.array([0, 0, 0]), np.array([1, 1, 0]), 2)
    assert confusion.tolist() == [[1, 2], [0, 0]]
