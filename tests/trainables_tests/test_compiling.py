"""When compiling a network is tried, what is kept of it, and that training goes on all the same."""

from __future__ import annotations

import os
import shutil
import signal
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from stint_results import rows, steps
from torch import nn

from trainables import checkpoint, compiling
from trainables.compiling import Compiled, compile_network, repays
from trainables.config import FineTuneConfig, ModelConfig, Task
from trainables.trainable import CompiledError, WorkerUsedUpError
from trainables.training import Training

CPU, GPU = torch.device("cpu"), torch.device("cuda")
LONG = 1.5 * compiling.EXPECTED_SECONDS / compiling.EXPECTED_SAVING
"""An epoch of a training that repays compiling, even if it is the last one."""


@pytest.mark.parametrize(
    ("choice", "device", "epoch_seconds", "epochs_left", "sizes", "tried"),
    [
        ("auto", GPU, LONG, 1, 1, True),
        ("auto", GPU, LONG, 1, 2, False),  # each size of batch is compiled for
        ("auto", GPU, LONG / 100, 30, 1, False),
        ("auto", GPU, LONG / 100, 99, 1, True),
        ("auto", GPU, LONG, 0, 1, False),
        ("auto", GPU, None, 100, 1, False),  # nothing is known of its epochs yet
        ("auto", CPU, LONG, 100, 1, False),
        ("never", GPU, LONG, 100, 1, False),
        ("always", CPU, None, 4, 2, True),
        ("always", GPU, 0.001, 1, 1, True),
        ("always", CPU, LONG, 0, 1, False),
    ],
)
def test_compiling_is_tried_where_the_epochs_left_are_expected_to_repay_it(
    choice, device, epoch_seconds, epochs_left, sizes, tried
):
    assert repays(choice, device, epoch_seconds, epochs_left, sizes) is tried


# ---- one network


class Counted(nn.Module):
    """Stands for a compiled network: computes the same, and counts."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.shapes: list[tuple[int, ...]] = []
        self.training_modes: list[bool] = []

    def __len__(self) -> int:
        raise TypeError("as torch's own, of a network that has no length")

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.shapes.append(tuple(images.shape))
        self.training_modes.append(self.network.training)
        result: torch.Tensor = self.network(images)
        return result


@pytest.fixture
def compiler(monkeypatch):
    """A compiler that takes no time, and how long steps take with what it makes of a network."""
    made: list[Counted] = []
    seconds = {"before": 1.0, "after": 0.5}
    step_seconds = compiling._step_seconds

    def compile_(network: nn.Module, *, dynamic: bool) -> Counted:
        assert dynamic is False
        made.append(Counted(network))
        return made[-1]

    def scripted(network: nn.Module, *rest: Any) -> float:
        step_seconds(network, *rest)
        return seconds["after" if isinstance(network, Counted) else "before"]

    monkeypatch.setattr(torch, "compile", compile_)
    monkeypatch.setattr(torch.compiler, "reset", made.clear)
    monkeypatch.setattr(compiling, "_step_seconds", scripted)
    return made, seconds


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.Flatten(), nn.Linear(144, 3)
    )


def test_a_faster_network_is_kept_and_says_by_how_much(compiler):
    found = compile_network(network(), [(5, 3, 8, 8)], CPU, "fp32")
    assert isinstance(found.network, Counted)
    assert found.outcome == "2.00 times as fast"


@pytest.mark.parametrize("after", [0.99, 1.0, 3.0])
def test_one_that_is_no_faster_is_left_out(compiler, after):
    made, seconds = compiler
    seconds["after"] = after
    found = compile_network(network(), [(5, 3, 8, 8)], CPU, "fp32")
    assert found.network is None
    assert found.outcome.startswith("left out: ")
    assert not made, "the compiler forgets it"


def test_a_compiler_that_fails_is_an_outcome(compiler, monkeypatch):
    def broken(network: nn.Module, *, dynamic: bool) -> Any:
        def call(images: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("no C compiler\n  was found")

        return call

    monkeypatch.setattr(torch, "compile", broken)
    found = compile_network(network(), [(5, 3, 8, 8)], CPU, "fp32")
    assert found == Compiled(None, "failed: RuntimeError: no C compiler")


@pytest.mark.parametrize("after", [0.5, 2.0])
def test_trying_it_leaves_weights_buffers_and_gradients_alone(compiler, after):
    compiler[1]["after"] = after
    model = network()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    compile_network(model, [(5, 3, 8, 8)], CPU, "fp32")
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


# ---- in a training


def test_it_is_compiled_for_every_size_of_batch_that_it_trains_on(compiler, make_config, data, task):
    training = Training(make_config(batch_size=16), task, data, seed=1)
    assert (len(data.train.labels), training.steps_per_epoch) == (60, 4)
    training.compile()
    (compiled,) = compiler[0]
    assert set(compiled.shapes) == {(15, 3, 8, 8)}
    training = Training(make_config(batch_size=8), task, data, seed=1)  # 7 or 8 batches do not divide 60
    training.compile()
    compiled = compiler[0][-1]
    tried = set(compiled.shapes)
    assert tried == {(8, 3, 8, 8), (7, 3, 8, 8)}
    compiled.shapes.clear()
    training.run_epoch()
    assert set(compiled.shapes) == tried
    assert len(compiled.shapes) == training.steps_per_epoch, "validation keeps to the network itself"
    assert all(compiled.training_modes)


def test_a_compiled_training_gives_the_curve_and_the_checkpoint_of_one_that_is_not(
    compiler, make_config, data, task, through_a_file
):
    plain = Training(make_config(averaging="lookahead"), task, data, seed=1)
    compiled = Training(make_config(averaging="lookahead"), task, data, seed=1)
    wanted = [plain.run_epoch(), plain.run_epoch()]
    got = [compiled.run_epoch()]
    assert compiled.compile() == "2.00 times as fast"
    got.append(compiled.run_epoch())
    assert [report.val_loss for report in got] == [report.val_loss for report in wanted]
    assert [report.train_loss for report in got] == [report.train_loss for report in wanted]
    assert compiled.state()["model"].keys() == plain.state()["model"].keys()
    plain.load(through_a_file(compiled.state()))
    assert plain.run_epoch().val_loss == compiled.run_epoch().val_loss


def test_stages_that_join_later_put_it_off(make_config, task, data):
    late = FineTuneConfig(unfreeze_over=0.5)
    training = Training(make_config(), task, data, seed=1)
    training.config = make_config(fine_tune=late)
    asked = []
    for _ in range(task.max_epochs):
        asked.append(training.compilable)
        training.run_epoch()
    assert asked == [False, False, True, True]


# ---- in a worker


def test_a_worker_compiles_once_a_stint_and_reports_it(compiler, worker, order):
    one = worker(order(compile="always"))
    results = steps(one, 3)
    assert [result["compiled"] for result in results] == ["2.00 times as fast"] * 3
    assert len(compiler[0]) == 1
    assert len(compiler[0][0].shapes) > 3 * one.training.steps_per_epoch
    one.reset_config({"stint": order(trial=8, folder=one.stint.folder.parent / "8")})
    assert not compiler[0], "the compiler forgets what no trial needs any more"
    (result,) = steps(one, 1)
    assert result["compiled"] == ""


def test_a_worker_tries_it_once_the_epochs_it_saw_are_long_enough(compiler, worker, order, monkeypatch):
    def long_enough(choice, device, seconds, left, sizes):
        return seconds is not None and left < 3

    monkeypatch.setattr("trainables.trainable.repays", long_enough)
    one = worker(order(compile="auto"))
    assert [result["compiled"] != "" for result in steps(one, 4)] == [False, False, True, True]


def test_what_compiling_takes_counts_as_setting_up(compiler, worker, order, monkeypatch):
    def slowly(self: Training) -> str:
        import time

        time.sleep(0.3)
        return "left out: 0.90 times as fast"

    monkeypatch.setattr(Training, "compile", slowly)
    results = steps(worker(order(compile="always")), 2)
    assert results[0]["setup_seconds"] > 0.3 > results[1]["setup_seconds"]


def test_too_little_memory_for_a_compiled_network_is_no_verdict_on_the_trial(
    compiler, worker, order, monkeypatch
):
    def no_room(self: Training) -> Any:
        raise torch.OutOfMemoryError("tried to allocate more than there is")

    with monkeypatch.context() as patch:
        patch.setattr(Training, "run_epoch", no_room)
        with pytest.raises(CompiledError, match="OutOfMemoryError: tried to allocate"):
            worker(order(compile="always")).step()
        assert "infeasible" in worker(order()).step()


def test_an_error_of_a_network_that_stayed_as_it_was_is_the_networks_own(
    compiler, worker, order, monkeypatch
):
    def broken(self: Training) -> Any:
        raise ValueError("of the network's own")

    compiler[1]["after"] = 2.0
    one = worker(order(compile="always"))
    (first,) = steps(one, 1)
    assert first["compiled"].startswith("left out")
    monkeypatch.setattr(Training, "run_epoch", broken)
    with pytest.raises(ValueError, match="of the network's own"):
        one.step()


def test_sigterm_that_comes_out_as_another_error_is_no_failure(worker, order, monkeypatch):
    def wrapped(self: Training) -> Any:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        except Exception as error:
            raise ValueError("a library's own error") from error

    monkeypatch.setattr(Training, "run_epoch", wrapped)
    with pytest.raises(WorkerUsedUpError, match="asked to leave"):
        worker(order()).step()


def test_what_failed_to_compile_once_may_be_tried_with_the_next_seed(compiler, worker, order, monkeypatch):
    outcomes = ["failed: OutOfMemoryError: others had it", "1.20 times as fast"]
    monkeypatch.setattr(Training, "compile", lambda self: outcomes.pop(0))
    one = worker(order(compile="always"))
    (first,) = steps(one, 1)
    one.reset_config({"stint": order(compile="always", trial=8, seed=5, folder=one.stint.folder / "8")})
    (second,) = steps(one, 1)
    assert (first["compiled"][:6], second["compiled"][:4]) == ("failed", "1.20")


def test_what_was_not_faster_with_one_seed_is_not_tried_with_the_next(compiler, worker, order, monkeypatch):
    compiler[1]["after"] = 2.0
    tried = []
    compile_ = Training.compile
    monkeypatch.setattr(Training, "compile", lambda self: tried.append(self.config) or compile_(self))
    one = worker(order(compile="always"))
    (first,) = steps(one, 1)
    folder = one.stint.folder.parent
    one.reset_config({"stint": order(compile="always", trial=8, seed=5, folder=folder / "8")})
    (second,) = steps(one, 1)
    assert first["compiled"] == second["compiled"] == "left out: 0.50 times as fast"
    assert len(tried) == 1
    other = replace(one.stint.config, model=BranchesConfig())
    one.reset_config({"stint": order(compile="always", trial=9, config=other, folder=folder / "9")})
    steps(one, 1)
    assert len(tried) == 2, "another network is another matter"


def test_a_compiler_that_ends_the_worker_costs_no_epoch(compiler, worker, order, folder, monkeypatch):
    on_disk = []

    def look(network: nn.Module, *, dynamic: bool) -> Any:
        state = checkpoint.load(folder)
        on_disk.append(None if state is None else (state["training"]["epoch"], "scored" in state))
        raise RuntimeError("it would have ended here")

    monkeypatch.setattr(torch, "compile", look)
    monkeypatch.setattr(
        "trainables.trainable.repays", lambda choice, device, seconds, *_: seconds is not None
    )
    one = worker(order(compile="auto", checkpoint_epochs=(4,)))
    results = steps(one, 2)
    assert on_disk == [(1, True)]
    assert [result["saved"] for result in results] == [False, True]


def test_a_worker_asked_to_leave_while_it_compiles_keeps_the_last_epoch_and_goes(
    compiler, worker, order, folder, monkeypatch
):
    def asked_to_leave(network: nn.Module, *, dynamic: bool) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, lambda number, frame: None)
    try:
        one = worker(order(compile="auto", checkpoint_epochs=(4,)))
        one.step()
        monkeypatch.setattr("trainables.trainable.repays", lambda *facts: True)
        monkeypatch.setattr(torch, "compile", asked_to_leave)
        with pytest.raises(WorkerUsedUpError, match="asked to leave"):
            one.step()
    finally:
        signal.signal(signal.SIGTERM, before)
    state = checkpoint.load(folder)
    assert state is not None
    assert state["training"]["epoch"] == 1


class Branches(nn.Module):
    """A network that is no nn.Sequential, with a frozen part and a norm."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.frozen = nn.Conv2d(task.channels, 4, 3).requires_grad_(False)
        self.norm = nn.BatchNorm2d(4)
        self.head = nn.Linear(4, task.classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = self.norm(self.frozen(images))
        logits: torch.Tensor = self.head((maps.relu() + maps.tanh()).mean((2, 3)))
        return logits


@dataclass(frozen=True, kw_only=True)
class BranchesConfig(ModelConfig):
    def build(self, task: Task) -> nn.Module:
        return Branches(task)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch's compiler needs g++ on a CPU")
@pytest.mark.parametrize("kind", ["sequential", "other"])
def test_torchs_own_compiler_trains_what_the_network_alone_does(
    kind, worker, order, make_config, monkeypatch, tmp_path
):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "compiled"))
    monkeypatch.setattr(compiling, "LEAST_SAVING", -1e9)  # kept, however slow: it is to be tried
    config = make_config(averaging="ema", batch_size=8, model={"widths": ((4,), (4, 8)), "head_dropout": 0.0})
    if kind == "other":
        config = replace(config, model=BranchesConfig())
    wanted = rows(steps(worker(order(config=config, folder=tmp_path / "plain")), 4))
    results = steps(worker(order(config=config, compile="always")), 4)
    assert results[0]["compiled"].endswith("times as fast")
    for got, row in zip(rows(results), wanted, strict=True):
        assert got == pytest.approx(row, rel=1e-3, abs=1e-3)
