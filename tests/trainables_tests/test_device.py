from types import SimpleNamespace

import pytest
import torch

from trainables import device as device_module
from trainables.device import CONTEXT_BYTES, fits, needs_room, pick_device, prepare_device

TOTAL = 16_000_000_000


@pytest.fixture
def calls(monkeypatch):
    """What a GPU of 16 GB is asked for; there is none here."""
    made = []
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", lambda share, _: made.append(share))
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
    monkeypatch.setattr(
        torch.cuda, "get_device_properties", lambda device: SimpleNamespace(total_memory=TOTAL)
    )
    return made


def test_trials_that_share_a_gpu_are_held_to_their_share_of_its_memory(calls):
    prepare_device(torch.device("cuda"), 0.25)
    # without what CUDA takes for itself in each of four processes
    assert calls == [pytest.approx(0.25 - CONTEXT_BYTES / TOTAL)]
    prepare_device(torch.device("cuda"), 0.01)
    assert calls[1:] == [0.005], "half a share at least"
    assert torch.backends.cudnn.benchmark


@pytest.mark.parametrize(("device", "share"), [("cuda", 1.0), ("cuda", 2.0), ("cpu", 0.0)])
def test_a_trial_that_shares_with_nobody_has_no_limit(calls, device, share):
    prepare_device(torch.device(device), share)
    assert calls == []


def test_a_data_set_stays_on_the_host_where_it_would_leave_too_little_of_the_share(
    monkeypatch, calls, make_dataset
):
    monkeypatch.setattr("test_device.TOTAL", 1_000_000)
    monkeypatch.setattr(device_module, "CONTEXT_BYTES", 0)
    data = make_dataset(train=500, val=20)  # 520 images of 192 bytes: 100 kB
    gpu = torch.device("cuda")
    assert [fits(data, gpu, share) for share in (1.0, 0.5, 0.25, 0.2, 2.0)] == [True, True, True, False, True]
    assert fits(data, torch.device("cpu"), 0.0)


def test_a_gpu_without_room_is_a_line_that_says_what_to_do():
    said = pytest.raises(ValueError, match=r"cuda has not enough memory left.*give --device cpu")
    with said, needs_room(torch.device("cuda")):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")


@pytest.mark.parametrize(
    ("usable", "share", "expected"),
    [(True, 0.25, "cuda"), (True, 0, "cpu"), (True, None, "cuda"), (False, 1, "cpu"), (False, None, "cpu")],
)
def test_a_trial_trains_on_what_it_has_a_share_of_and_not_on_what_can_be_seen(
    monkeypatch, usable, share, expected
):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: usable)
    monkeypatch.setattr(device_module, "may_have_gpus", lambda: usable)
    assert pick_device("auto", share) == torch.device(expected)


def test_a_trial_whose_gpu_torch_cannot_use_does_not_train_on_the_cpu_instead(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(device_module, "may_have_gpus", lambda: True)
    with pytest.raises(ValueError, match=r"cannot use the GPU of this machine.*--device cpu"):
        pick_device("auto", 1.0)
    assert pick_device("auto") == torch.device("cpu")


def test_gpu_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert pick_device("auto") == pick_device("cpu") == torch.device("cpu")
    with pytest.raises(ValueError, match="--device cuda: there is no GPU here"):
        pick_device("cuda")
