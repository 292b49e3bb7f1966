"""A worker that is asked to leave, as where a spot machine is taken away."""

import errno
import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from stint_results import rows, steps

from trainables import checkpoint
from trainables.storage import StorageError
from trainables.trainable import WorkerUsedUpError
from trainables.training import Training


@pytest.fixture
def asked_to_leave() -> Iterator[list[int]]:
    """The signals that reach what Ray does about SIGTERM, which here is nothing."""
    reached: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: reached.append(number))
    yield reached
    signal.signal(signal.SIGTERM, before)


def told_to_leave_before(step: Callable[..., Any]) -> Callable[..., Any]:
    """A step of a worker's, in which it is asked to leave first."""

    def told(*arguments: Any, **options: Any) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)
        return step(*arguments, **options)

    return told


def test_a_worker_asked_to_leave_within_an_epoch_keeps_the_last_one(
    worker, order, folder, asked_to_leave, monkeypatch
):
    undisturbed = worker(order(checkpoint_epochs=(4,), folder=folder / "other"))
    wanted = rows([undisturbed.step() for _ in range(4)])
    leaving = worker(order(checkpoint_epochs=(4,)))
    first = [leaving.step(), leaving.step()]
    assert checkpoint.load(folder) is None
    with monkeypatch.context() as patch:
        patch.setattr(Training, "run_epoch", told_to_leave_before(Training.run_epoch))
        with pytest.raises(WorkerUsedUpError, match="asked to leave"):
            leaving.step()
    state = checkpoint.load(folder)
    assert state is not None
    assert state["training"]["epoch"] == 2
    assert asked_to_leave == [], "the epoch was given up instead"
    other = worker(order(stint=1, known_epochs=2, checkpoint_epochs=(4,)))
    assert rows([*first, other.step(), other.step()]) == wanted


def test_a_worker_asked_to_leave_between_epochs_keeps_the_last_one_and_goes(
    worker, order, folder, asked_to_leave
):
    leaving = worker(order(checkpoint_epochs=(4,)))
    leaving.step()
    os.kill(os.getpid(), signal.SIGTERM)
    state = checkpoint.load(folder)
    assert state is not None
    assert state["training"]["epoch"] == 1
    assert asked_to_leave == [signal.SIGTERM]


def test_a_worker_asked_to_leave_while_it_saves_leaves_when_that_is_done(
    worker, order, folder, asked_to_leave, monkeypatch
):
    leaving = worker(order())
    monkeypatch.setattr(checkpoint, "save", told_to_leave_before(checkpoint.save))
    with pytest.raises(WorkerUsedUpError, match="asked to leave"):
        leaving.step()
    state = checkpoint.load(folder)
    assert state is not None
    assert state["training"]["epoch"] == 1


def test_a_worker_asked_to_leave_while_it_loads_a_checkpoint_leaves_it_there(
    worker, order, folder, asked_to_leave, monkeypatch
):
    steps(worker(order(checkpoint_epochs=(2,))), 2)
    leaving = worker(order(stint=1, known_epochs=2))
    with monkeypatch.context() as patch:
        patch.setattr(torch, "load", told_to_leave_before(torch.load))
        patch.setattr("warnings.warn", lambda *_, **__: None)  # it takes the signal for damage
        with pytest.raises(WorkerUsedUpError, match="asked to leave"):
            leaving.step()
    state = checkpoint.load(folder)
    assert state is not None
    assert state["training"]["epoch"] == 2


def test_a_worker_whose_disk_leaves_before_it_does_is_at_no_fault(
    worker, order, folder, asked_to_leave, monkeypatch
):
    leaving = worker(order(checkpoint_epochs=(4,)))
    leaving.step()

    def away(*_):
        raise OSError(errno.ESTALE, "Stale file handle")

    monkeypatch.setattr(Training, "run_epoch", told_to_leave_before(Training.run_epoch))
    monkeypatch.setattr(checkpoint, "save", away)
    with pytest.raises(WorkerUsedUpError, match="asked to leave"):
        leaving.step()


def test_a_worker_whose_storage_fails_while_it_leaves_ends_no_search(
    worker, order, asked_to_leave, monkeypatch
):
    leaving = worker(order())

    def away(*_):
        os.kill(os.getpid(), signal.SIGTERM)
        raise StorageError("s3://bucket cannot be reached")

    monkeypatch.setattr(checkpoint, "save", away)
    with pytest.raises(WorkerUsedUpError, match="asked to leave"):
        leaving.step()


def test_a_worker_asked_to_leave_twice_saves_all_the_same(worker, order, folder, asked_to_leave, monkeypatch):
    leaving = worker(order(checkpoint_epochs=(4,)))
    leaving.step()
    monkeypatch.setattr(checkpoint, "save", told_to_leave_before(checkpoint.save))
    os.kill(os.getpid(), signal.SIGTERM)
    state = checkpoint.load(folder)
    assert state is not None
    assert state["training"]["epoch"] == 1
    assert asked_to_leave == [signal.SIGTERM], "once, when that was done"
