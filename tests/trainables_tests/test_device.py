from types import SimpleNamespace

import pytest
import torch

from trainables.device import fits, pick_device, prepare_device


@pytest.fixture
def calls(monkeypatch):
    """What a GPU of 1 MB is asked for; there is none here."""
    made = []
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", made.append)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
    monkeypatch.setattr(
        torch.cuda, "get_device_properties", lambda device: SimpleNamespace(total_memory=1_000_000)
    )
    return made


def test_trials_that_share_a_gpu_are_held_to_their_share_of_its_memory(calls):
    prepare_device(torch.device("cuda"), 0.25)
    assert calls == [0.25]
    assert torch.backends.cudnn.benchmark


@pytest.mark.parametrize(("device", "share"), [("cuda", 1.0), ("cuda", 2.0), ("cpu", 0.0)])
def test_a_trial_that_shares_with_nobody_has_no_limit(calls, device, share):
    prepare_device(torch.device(device), share)
    assert calls == []


def test_a_data_set_stays_on_the_host_where_it_would_leave_too_little_of_the_share(calls, make_dataset):
    data = make_dataset(train=500, val=20)  # 520 images of 192 bytes: 100 kB
    gpu = torch.device("cuda")
    assert [fits(data, gpu, share) for share in (1.0, 0.5, 0.25, 0.2, 2.0)] == [True, True, True, False, True]
    assert fits(data, torch.device("cpu"), 0.0)


def test_gpu_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert pick_device("auto") == pick_device("cpu") == torch.device("cpu")
    with pytest.raises(ValueError, match="--device cuda: there is no GPU here"):
        pick_device("cuda")
