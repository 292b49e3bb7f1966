import gc
import math
import threading
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from stint_results import rows, steps

from trainables import checkpoint
from trainables import trainable as trainable_module
from trainables.config import OptimizerConfig, TrialConfig
from trainables.models.pretrained import PretrainedConfig
from trainables.models.pretrained_network import PretrainedNetwork, build_backbone
from trainables.stint import Stint
from trainables.trainable import Trainable, WorkerUsedUpError
from trainables.training import Training
from trainables.weights import Weights


def epochs(results: list[dict[str, Any]]) -> list[int]:
    return [row["epoch"] for row in rows(results)]


def saved_epoch(folder: Path) -> int | None:
    state = checkpoint.load(folder)
    return None if state is None else state["training"]["epoch"]


@pytest.fixture
def whole_curve(worker, order, tmp_path) -> list[dict[str, Any]]:
    """Reports of the trial trained without a break, elsewhere."""
    return rows(steps(worker(order(folder=tmp_path / "whole")), 4))


# ---- one stint


def test_each_step_reports_an_epoch(worker, order):
    results = steps(worker(order()), 4)
    assert epochs(results) == [1, 2, 3, 4]
    for result in results:
        assert (result["precision"], result["device"]) == ("fp32", "cpu")
        assert result["node"]
        assert result["setup_seconds"] >= 0
        assert all(isinstance(value, int | float) for row in result["reports"] for value in row.values())
    assert results[0]["setup_seconds"] > results[1]["setup_seconds"]


def test_worker_trains_what_the_order_says(worker, order, data):
    stint = order()
    training = Training(stint.config, stint.task, data, seed=stint.seed)
    wanted = [vars(report) for report in training.epochs()]
    assert rows(steps(worker(stint), 4)) == rows([{"reports": wanted}])


def test_an_order_is_begun_at_the_first_step(worker, order, folder):
    one = worker(order())
    assert one.training is None
    assert not folder.exists()


def test_checkpoint_is_written_at_the_epochs_asked_for_before_the_report(worker, order, folder):
    one = worker(order(checkpoint_epochs=(2, 4)))
    saved = []
    for _ in range(4):
        result = one.train()
        saved.append(saved_epoch(folder))
        assert result["checkpoint_seconds"] > 0, "also where it only keeps a copy"
    assert saved == [None, 2, 2, 4]
    state = checkpoint.load(folder, "mine")
    assert [row["epoch"] for row in state["reports"]] == [1, 2, 3, 4]
    wanted = one.training.scored_weights()
    assert all(torch.equal(state["scored"][name], tensor) for name, tensor in wanted.items())


def test_checkpoint_is_written_after_the_time_asked_for(worker, order, folder, monkeypatch):
    now, run_epoch = [1000.0], Training.run_epoch

    def slow_epoch(training: Training) -> Any:
        now[0] += (59, 2, 59, 2)[training.epoch]
        return run_epoch(training)

    monkeypatch.setattr(trainable_module.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(Training, "run_epoch", slow_epoch)
    one = worker(order(checkpoint_epochs=(), checkpoint_seconds=60.0))
    saved = []
    for _ in range(4):
        one.train()
        saved.append(saved_epoch(folder))
    assert saved == [None, 2, 2, 4]


# ---- going on


def test_trial_goes_on_exactly_on_another_worker(worker, order, folder, whole_curve):
    results = steps(worker(order()), 2)
    assert saved_epoch(folder) == 2
    results += steps(worker(order(stint=1, known_epochs=2)), 2)
    assert rows(results) == whole_curve
    assert [path.name for path in folder.glob("checkpoint-*")] == ["checkpoint-001.pt"]
    assert [row["epoch"] for row in checkpoint.load(folder)["reports"]] == [1, 2, 3, 4]


def test_reports_that_the_record_lacks_come_first_and_without_training(worker, order, whole_curve):
    steps(worker(order(checkpoint_epochs=(3,))), 3)
    one = worker(order(stint=1, known_epochs=1))
    unknown = one.train()
    assert epochs([unknown]) == [2, 3]
    assert one.training.epoch == 3
    assert rows([unknown, *steps(one, 1)]) == whole_curve[1:]


def test_epochs_after_the_last_checkpoint_are_trained_again(worker, order, whole_curve):
    steps(worker(order(checkpoint_epochs=(1,))), 3)
    again = steps(worker(order(stint=1, known_epochs=3)), 3)
    assert rows(again) == whole_curve[1:]


def test_trial_that_is_at_its_end_reports_its_last_epoch_again(worker, order, whole_curve):
    steps(worker(order()), 4)
    one = worker(order(stint=1, known_epochs=4))
    assert rows([one.train()]) == whole_curve[3:]
    assert one.training.epoch == 4


def only_what_was_chosen(choice: str, *_: Any) -> str:
    assert choice == "bf16"
    return choice


def test_trial_goes_on_in_the_precision_it_began_with(worker, order, monkeypatch):
    monkeypatch.setattr(trainable_module, "choose_precision", only_what_was_chosen)
    steps(worker(order(precision="bf16")), 1)
    for choice in ("fp32", "auto"):  # nor is anything timed
        result = worker(order(stint=1, known_epochs=1, precision=choice)).train()
        assert result["precision"] == "bf16"


def test_checkpoint_of_another_identity_is_not_taken(worker, order, folder):
    steps(worker(order(identity="other")), 2)
    one = worker(order(stint=1, known_epochs=2))
    assert epochs([one.train()]) == [1]
    assert [path.name for path in folder.glob("checkpoint-*")] == ["checkpoint-001.pt"]
    assert checkpoint.load(folder)["identity"] == "mine"


def test_trial_with_a_damaged_checkpoint_starts_anew(worker, order, folder, whole_curve):
    steps(worker(order()), 2)
    path = folder / "checkpoint-000.pt"
    path.write_bytes(path.read_bytes()[:1000])
    one = worker(order(stint=1, known_epochs=2))
    with pytest.warns(UserWarning, match=r"checkpoint-000\.pt"):
        first = one.train()
    assert rows([first, *steps(one, 3)]) == whole_curve


# ---- one worker, many stints


def test_next_order_finds_nothing_of_the_last(worker, order, make_config, tmp_path, whole_curve):
    one = worker(order(config=make_config(optimizer={"name": "adamw"}), folder=tmp_path / "other", seed=3))
    steps(one, 2)
    data = one.device_data
    assert one.reset({"stint": order()})
    assert one.training is None
    assert rows(steps(one, 4)) == whole_curve
    assert one.device_data is data  # the data stays where it is


def test_many_stints_leave_nothing_behind(worker, order, tmp_path):
    one = worker(order())
    steps(one, 1)
    threads = threading.active_count()
    left: list[weakref.ref[Any]] = []
    for number in range(30):
        one.reset({"stint": order(trial=number, folder=tmp_path / str(number), checkpoint_epochs=(1,))})
        assert [ref() for ref in left if ref() is not None] == []
        steps(one, 1)
        left += [weakref.ref(x) for x in (one.training, one.training.optimizer, one.writer)]
        left += [weakref.ref(parameter) for parameter in one.training.model.parameters()]
    assert threading.active_count() == threads
    one.stop()
    assert [ref() for ref in left if ref() is not None] == []


def test_network_that_refers_to_itself_is_freed(worker, order, monkeypatch):
    one = worker(order())
    gc.unfreeze()
    one.reset({"stint": order()})
    assert gc.get_freeze_count() > 0  # what was loaded until now is not looked through any more
    steps(one, 1)
    one.training.model.itself = [one.training]
    training = weakref.ref(one.training)
    one.reset({"stint": order()})
    assert training() is None


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried 9 EiB.\nSee"), "CUDA out of memory. Tried 9 EiB."),
        (torch.OutOfMemoryError(), ""),
        (MemoryError("cannot allocate"), "cannot allocate"),
    ],
)
def test_out_of_memory_is_infeasible_and_the_worker_takes_no_other_order(
    worker, order, monkeypatch, error, text
):
    def run_epoch(training: Training) -> Any:
        raise error

    one = worker(order())
    with monkeypatch.context() as patch:
        patch.setattr(Training, "run_epoch", run_epoch)
        result = one.train()
    assert result["infeasible"] == f"out of memory: {text}"
    assert "reports" not in result
    assert one.training is None
    with pytest.raises(WorkerUsedUpError, match="out of memory"):
        one.reset({"stint": order()})


@pytest.mark.parametrize("place", ["validate", "state"])
def test_out_of_memory_after_the_first_epoch_was_trained_is_infeasible_too(worker, order, monkeypatch, place):
    def no_room(training: Training) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(Training, place, no_room)
    assert worker(order()).train()["infeasible"] == "out of memory: CUDA out of memory."


def test_out_of_memory_of_a_trial_that_has_trained_elsewhere_is_no_verdict_on_it(worker, order, monkeypatch):
    steps(worker(order()), 1)

    def no_room(*_: Any, **__: Any) -> Any:
        raise MemoryError("others took it")

    monkeypatch.setattr(torch, "load", no_room)
    with pytest.raises(MemoryError, match="others took it"):
        worker(order(stint=1, known_epochs=1)).step()


def test_a_tensor_that_the_machine_has_no_room_for_is_infeasible(worker, order, monkeypatch):
    def run_epoch(training: Training) -> Any:
        return torch.empty(2**55)

    monkeypatch.setattr(Training, "run_epoch", run_epoch)
    assert "out of memory" in worker(order()).train()["infeasible"]


def test_a_worker_whose_memory_grows_takes_no_other_order(worker, order, monkeypatch):
    monkeypatch.setattr(trainable_module, "MOST_GROWTH", 50 * 2**20)
    one = worker(order())
    for _ in range(3):
        steps(one, 1)
        one.reset({"stint": order()})
    kept = bytearray(80 * 2**20)
    with pytest.raises(WorkerUsedUpError, match="its memory grew from"):
        one.reset({"stint": order()})
    assert kept


def test_other_exceptions_are_passed_on(worker, order, monkeypatch):
    def run_epoch(training: Training) -> Any:
        raise RuntimeError("a bug in a network")

    monkeypatch.setattr(Training, "run_epoch", run_epoch)
    with pytest.raises(RuntimeError, match="a bug in a network"):
        worker(order()).train()


def test_diverged_training_reports_what_is_not_a_number(worker, order, make_config):
    config = make_config(optimizer={"learning_rate": 1e30})
    results = steps(worker(order(config=config)), 2)
    assert epochs(results) == [1, 2]
    assert not all(math.isfinite(results[-1]["reports"][-1][name]) for name in ("train_loss", "val_loss"))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_is_told_and_is_no_exception_of_the_trial(worker, order, folder):
    folder.mkdir(parents=True)
    (folder / "checkpoint-000.tmp").symlink_to("/dev/full")
    one = worker(order())
    (result,) = steps(one, 1)
    assert result["storage"] == f"{folder} cannot be written: No space left on device"
    assert "reports" not in result
    with pytest.raises(WorkerUsedUpError):
        one.reset_config({"stint": order(stint=1)})  # its place may be what cannot write
    assert epochs(steps(worker(order(stint=1)), 1)) == [1], (
        "with room again it trains from its last checkpoint"
    )


# ---- pretrained networks


def test_trials_of_a_worker_share_weights_and_features(dataset, order, tmp_path, monkeypatch):
    monkeypatch.setattr("ray.tune.trainable.trainable.DEFAULT_STORAGE_PATH", str(tmp_path / "ray"))
    state = {name: t.numpy() for name, t in build_backbone("mobilenet_v2")[0].state_dict().items()}
    weights = Weights(name="mine", states={"mobilenet_v2": state})
    images: list[int] = []
    features = PretrainedNetwork.features

    def counting(network: PretrainedNetwork, batch: torch.Tensor) -> torch.Tensor:
        images.append(len(batch))
        return features(network, batch)

    monkeypatch.setattr(PretrainedNetwork, "features", counting)

    class WithWeights(Trainable):
        def setup(self, config: dict[str, Any]) -> None:
            super().setup(config, data=dataset, weights=weights, device="cpu", threads=1, gpus=0.0)

    def head_only(trial: int, dropout: float) -> Stint:
        model = PretrainedConfig(
            architecture="mobilenet_v2", weights="mine", unfrozen="head", input_size=32, dropout=dropout
        )
        optimizer = OptimizerConfig(name="sgd", learning_rate=0.1)
        config = TrialConfig(model=model, optimizer=optimizer)
        return order(trial=trial, folder=tmp_path / str(trial), config=config)

    one = WithWeights({"stint": head_only(1, 0.0)})
    steps(one, 2)
    one.reset({"stint": head_only(2, 0.5)})
    steps(one, 1)
    assert sum(images) == len(dataset.train) + len(dataset.val)
    backbone = one.training.model.backbone.state_dict()
    assert all(torch.equal(backbone[name], torch.tensor(array)) for name, array in state.items())
    one.stop()
    gc.unfreeze()  # what a worker does about its imports
