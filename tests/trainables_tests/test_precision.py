from dataclasses import replace

import pytest
import torch

from trainables import precision as precision_module
from trainables.config import Task
from trainables.models.cnn import CnnConfig
from trainables.precision import choose_precision

CPU = torch.device("cpu")
MODEL = CnnConfig(widths=((4,),), head_dropout=0.5)


@pytest.fixture
def timed(monkeypatch) -> list[tuple[int, str]]:
    """What was timed, as batch size and precision. Time is as the test says, the hardware able."""
    calls: list[tuple[int, str]] = []

    def time_steps(model, task, batch_size, device, precision):
        calls.append((batch_size, precision))
        return {"fp32": 2.0, "bf16": 1.0 if batch_size >= 64 else 3.0}[precision]

    monkeypatch.setattr(precision_module, "_time_steps", time_steps)
    monkeypatch.setattr(precision_module, "bf16_hardware", lambda device: True)
    monkeypatch.setattr(precision_module, "_chosen", {})
    return calls


@pytest.mark.parametrize("choice", ["fp32", "bf16"])
def test_a_choice_that_was_made_is_taken_untimed(choice, task, timed):
    assert choose_precision(choice, MODEL, task, 64, CPU) == choice
    assert timed == []


@pytest.mark.parametrize("choice", ["fp16", "", "AUTO"])
def test_unknown_precision_is_refused(choice, task):
    with pytest.raises(ValueError, match=f"auto, fp32 or bf16, but is '{choice}'"):
        choose_precision(choice, MODEL, task, 64, CPU)


def test_auto_takes_what_is_faster_for_this_network_and_batch(task, timed):
    assert choose_precision("auto", MODEL, task, 64, CPU) == "bf16"
    assert choose_precision("auto", MODEL, task, 32, CPU) == "fp32"
    assert timed == [(64, "fp32"), (64, "bf16"), (32, "fp32"), (32, "bf16")]


def test_auto_times_once_a_network_task_and_batch(task, timed):
    for model in (MODEL, CnnConfig(widths=((4,),), head_dropout=0.5), replace(MODEL, kernel=5)):
        choose_precision("auto", model, task, 64, CPU)
    assert len(timed) == 2 * 2
    for changed in (replace(task, image_size=16), replace(task, channels=1), replace(task, classes=99)):
        before = len(timed)
        choose_precision("auto", MODEL, changed, 64, CPU)
        assert len(timed) == before + 2
        choose_precision("auto", MODEL, changed, 64, CPU)
        assert len(timed) == before + 2


def test_auto_takes_what_there_is_room_for(task, timed, monkeypatch):
    roomy = precision_module._time_steps

    def cramped(model, task, batch_size, device, precision):
        if precision == "fp32":
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return roomy(model, task, batch_size, device, precision)

    monkeypatch.setattr(precision_module, "_time_steps", cramped)
    assert choose_precision("auto", MODEL, task, 32, CPU) == "bf16"


def test_no_room_in_any_precision_is_out_of_memory(task, timed, monkeypatch):
    def cramped(*_):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(precision_module, "_time_steps", cramped)
    with pytest.raises(torch.OutOfMemoryError, match="no room for one training step"):
        choose_precision("auto", MODEL, task, 32, CPU)


def test_bf16_is_refused_on_a_gpu_that_has_none(task, monkeypatch):
    monkeypatch.setattr(precision_module, "bf16_hardware", lambda device: False)
    with pytest.raises(ValueError, match="does not multiply bf16 in hardware"):
        choose_precision("bf16", MODEL, task, 32, torch.device("cuda"))


def test_auto_is_fp32_where_bf16_is_only_emulated(task, timed, monkeypatch):
    monkeypatch.setattr(precision_module, "bf16_hardware", lambda device: False)
    assert choose_precision("auto", MODEL, task, 64, CPU) == "fp32"
    assert timed == []


def test_timing_leaves_the_random_state_as_it_was(task: Task, monkeypatch):
    monkeypatch.setattr(precision_module, "bf16_hardware", lambda device: True)
    monkeypatch.setattr(precision_module, "_chosen", {})
    torch.manual_seed(3)
    wanted = torch.rand(4)
    torch.manual_seed(3)
    assert choose_precision("auto", MODEL, task, 4, CPU) in ("fp32", "bf16")
    assert torch.equal(torch.rand(4), wanted)


def test_timed_steps_are_those_of_training_in_the_precision_asked_for(task, monkeypatch):
    dtypes: dict[str, set[torch.dtype]] = {"fp32": set(), "bf16": set()}
    for name, seen in dtypes.items():
        handle = torch.nn.modules.module.register_module_forward_hook(
            lambda module, inputs, output, seen=seen: (
                seen.add(output.dtype) if isinstance(module, torch.nn.Conv2d) and module.training else None
            )
        )
        assert precision_module._time_steps(MODEL, task, 4, CPU, name) > 0
        handle.remove()
    assert dtypes == {"fp32": {torch.float32}, "bf16": {torch.bfloat16}}


def test_cpu_hardware_is_what_torch_says(monkeypatch):
    for capabilities, able in [({}, False), ({"avx512_bf16": True}, True), ({"amx_bf16": True}, True)]:
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda found=capabilities: found)
        assert precision_module.bf16_hardware(CPU) is able
