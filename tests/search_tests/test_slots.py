import sys

import pytest

from search import slots
from search.settings import Settings, UsageError
from search.slots import Machine, Slots, cluster_slots, slots_for, this_machine


@pytest.mark.parametrize(
    ("asked", "machine", "expected"),
    [
        # CPUs only: a trial on each core, or fewer and wider ones
        ({}, Machine(8, 0), Slots(8, 1, 0.0)),
        ({}, Machine(1, 0), Slots(1, 1, 0.0)),
        ({"max_concurrent": 2}, Machine(8, 0), Slots(2, 4, 0.0)),
        ({"max_concurrent": 3}, Machine(8, 0), Slots(3, 2, 0.0)),
        ({"max_concurrent": 99}, Machine(8, 0), Slots(8, 1, 0.0)),
        ({"cpus_per_trial": 2}, Machine(8, 0), Slots(4, 2, 0.0)),
        ({"cpus_per_trial": 3}, Machine(8, 0), Slots(2, 3, 0.0)),
        ({"cpus_per_trial": 2, "max_concurrent": 3}, Machine(8, 0), Slots(3, 2, 0.0)),
        ({"cpus_per_trial": 8}, Machine(8, 0), Slots(1, 8, 0.0)),
        # GPUs: a trial on each, the cores shared out evenly
        ({}, Machine(16, 4), Slots(4, 4, 1.0)),
        ({}, Machine(10, 4), Slots(4, 2, 1.0)),
        ({"max_concurrent": 1}, Machine(16, 4), Slots(1, 16, 1.0)),
        ({"gpus_per_trial": 0}, Machine(8, 2), Slots(8, 1, 0)),
        ({"device": "cpu"}, Machine(8, 2), Slots(8, 1, 0.0)),
        ({}, Machine(2, 4), Slots(2, 1, 1.0)),
        # shares of a GPU, none of them spread over two
        ({"gpus_per_trial": 0.25}, Machine(16, 2), Slots(8, 2, 0.25)),
        ({"gpus_per_trial": 0.25}, Machine(4, 2), Slots(4, 1, 0.25)),
        ({"gpus_per_trial": 0.25, "max_concurrent": 2}, Machine(16, 2), Slots(2, 8, 0.25)),
        ({"gpus_per_trial": 0.4}, Machine(16, 2), Slots(4, 4, 0.4)),
        ({"gpus_per_trial": 0.6}, Machine(16, 2), Slots(2, 8, 0.6)),
        ({"gpus_per_trial": 1 / 3}, Machine(16, 1), Slots(3, 5, 1 / 3)),
        ({"gpus_per_trial": 0.1}, Machine(20, 1), Slots(10, 2, 0.1)),
    ],
)
def test_slots(asked, machine, expected):
    found = slots_for(Settings(**asked), machine)
    assert found == expected
    assert found.count * found.cpus <= machine.cpus


@pytest.mark.parametrize(
    ("asked", "machine", "message"),
    [
        ({"cpus_per_trial": 9}, Machine(8, 0), "--cpus-per-trial 9 .* has: 8 cores"),
        ({"gpus_per_trial": 1}, Machine(8, 0), "--gpus-per-trial 1 .* has: 0 GPUs"),
        ({"gpus_per_trial": 0.5}, Machine(8, 0), r"--gpus-per-trial 0\.5 .* has: 0 GPUs"),
        ({"device": "cuda"}, Machine(8, 0), "--device cuda needs a GPU .* has 0 GPUs"),
        ({"device": "cuda", "gpus_per_trial": 0}, Machine(8, 2), "--device cuda .* --gpus-per-trial is 0"),
    ],
)
def test_more_than_there_is_is_refused_with_both_numbers(asked, machine, message):
    with pytest.raises(UsageError, match=message):
        slots_for(Settings(**asked), machine)


def test_machine_without_a_look_for_gpus_has_the_cores_of_this_process(monkeypatch):
    monkeypatch.setattr(slots, "_container_cpus", lambda: None)
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {1, 2, 5}, raising=False)
    monkeypatch.setitem(sys.modules, "torch", None)  # an import would fail
    assert this_machine(look_for_gpus=False) == Machine(3, 0)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux shows GPUs as files")
def test_torch_is_asked_for_gpus_only_where_the_system_shows_one(tmp_path, monkeypatch):
    for name in ("null", "nvme0n1", "tty"):
        (tmp_path / name).touch()
    assert not slots.may_have_gpus(tmp_path)
    for name in ("nvidia0", "nvidiactl", "kfd", "dxg"):
        (tmp_path / name).touch()
        assert slots.may_have_gpus(tmp_path)
        (tmp_path / name).unlink()
    monkeypatch.setattr(slots, "may_have_gpus", lambda: False)
    monkeypatch.setitem(sys.modules, "torch", None)  # an import would fail
    assert this_machine(look_for_gpus=True).gpus == 0


def test_gpus_that_torch_cannot_use_are_said_and_not_passed_over(monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(slots, "may_have_gpus", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UsageError, match=r"has 2 GPUs that PyTorch .* cannot use.*--device cpu"):
        this_machine(look_for_gpus=True)


def test_limit_of_a_container_counts(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(64)), raising=False)
    monkeypatch.setattr(slots, "_container_cpus", lambda: 2)
    assert this_machine(look_for_gpus=False) == Machine(2, 0)


@pytest.mark.parametrize(
    ("text", "cpus"), [("200000 100000\n", 2), ("50000 100000\n", 1), ("max 100000\n", None), ("", None)]
)
def test_limit_of_a_container_is_read(tmp_path, text, cpus):
    (tmp_path / "cpu.max").write_text(text)
    assert slots._container_cpus(tmp_path / "cpu.max") == cpus
    assert slots._container_cpus(tmp_path / "none") is None


@pytest.mark.parametrize(
    ("asked", "machines", "expected"),
    [
        ({}, [Machine(4, 0), Machine(2, 0)], Slots(1, 1, 0.0)),
        ({}, [Machine(16, 4)], Slots(1, 4, 1.0)),
        # GPUs of several kinds: the cores of the node that has fewest for each
        ({}, [Machine(16, 4), Machine(8, 1), Machine(64, 0)], Slots(1, 4, 1.0)),
        ({"gpus_per_trial": 0.25}, [Machine(16, 1)], Slots(1, 4, 0.25)),
        ({"device": "cpu"}, [Machine(16, 4)], Slots(1, 1, 0.0)),
        ({"cpus_per_trial": 3}, [Machine(4, 0)], Slots(1, 3, 0.0)),
    ],
)
def test_slots_of_a_cluster(asked, machines, expected):
    assert cluster_slots(Settings(address="auto", **asked), machines) == expected


@pytest.mark.parametrize(
    ("asked", "machines", "message"),
    [
        ({"gpus_per_trial": 1}, [Machine(8, 0)], "--gpus-per-trial 1 can never be placed: no node .* 0 GPUs"),
        ({"device": "cuda"}, [Machine(8, 0)], "no node of the cluster has one"),
        ({"cpus_per_trial": 9}, [Machine(8, 0)], "--cpus-per-trial 9 can never be placed"),
        ({"cpus_per_trial": 9}, [Machine(8, 1), Machine(64, 0)], "more than 8 cores beside 1 GPUs"),
    ],
)
def test_a_trial_that_no_node_can_hold_is_refused(asked, machines, message):
    with pytest.raises(UsageError, match=message):
        cluster_slots(Settings(address="auto", **asked), machines)


@pytest.mark.parametrize(
    ("slots", "machine", "room"),
    [
        (Slots(1, 1, 0.0), Machine(4, 0), 4),
        (Slots(1, 3, 0.0), Machine(4, 0), 1),
        (Slots(1, 2, 1.0), Machine(16, 4), 4),
        (Slots(1, 2, 1.0), Machine(4, 4), 2),
        (Slots(1, 1, 0.25), Machine(16, 2), 8),
        (Slots(1, 1, 1.0), Machine(16, 0), 0),
    ],
)
def test_room_on_a_machine(slots, machine, room):
    assert slots.on(machine) == room
