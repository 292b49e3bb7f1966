"""The Ray adapter: a worker that trains one stint after another. The only file here that imports ray."""

from __future__ import annotations

import gc
import platform
import signal
import threading
import time
from contextlib import suppress
from dataclasses import asdict
from typing import Any

import torch
from ray import tune
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.summary_pb2 import Summary

from trainables import checkpoint
from trainables.compiler import without_compiler
from trainables.compiling import LEFT_OUT, repays
from trainables.data import Dataset
from trainables.device import DeviceData, fits, pick_device, place, prepare_device
from trainables.events import EventFile
from trainables.features import FeatureCache
from trainables.hparams import session_end, session_start
from trainables.memory import give_back_freed_memory, is_out_of_memory, keep_freed_memory, own_bytes
from trainables.precision import choose_precision
from trainables.stint import Stint
from trainables.storage import StorageError, writing
from trainables.training import EpochReport, Training, scored_in
from trainables.weights import NO_WEIGHTS, Weights

MOST_GROWTH = 2**30
"""Bytes that a worker may hold between trials beyond what it held after its first one."""


LEAVING = "asked to leave by SIGTERM"


class WorkerUsedUpError(Exception):
    """A worker that should not train another trial; the order goes to a new one."""


class CompiledError(Exception):
    """Training failed after compiling was tried: no fault of the trial's until it fails without, too."""


class Trainable(tune.Trainable):
    """Trains what `config["stint"]` orders. Worker, device and data outlive a stint.

    A result has `reports`: one or more epochs as dictionaries, most often one; after a crash also those
    that the checkpoint knows and the record does not. An order is only noted when it comes and begun at
    the first step, where Ray handles what goes wrong.
    """

    stint: Stint | None
    training: Training | None

    def setup(self, config: dict[str, Any], **shared: Any) -> None:
        """Once a worker. `shared` has `data` (a Dataset), `device` (a name), `threads` (a number), `gpus`
        (how many a trial has, or which share of one), and perhaps `weights` (for pretrained networks)."""
        without_compiler()
        keep_freed_memory()
        torch.set_num_threads(shared["threads"])
        torch.set_float32_matmul_precision("high")
        self.dataset: Dataset = shared["data"]
        self.weights: Weights = shared.get("weights", NO_WEIGHTS)
        self.features = FeatureCache()
        self.device_name: str = shared["device"]
        self.gpus: float = shared["gpus"]
        self.device_data: DeviceData | None = None
        self.writer: Any = None
        self.training = None
        self.unsaved: dict[str, Any] | None = None
        self.stepping = self.saving = self.leaving = self.saved = False
        if threading.current_thread() is threading.main_thread():
            self.ray_handler: Any = signal.signal(signal.SIGTERM, self._asked_to_leave)
        self.used_up = ""
        self.first_bytes: int | None = None
        self.compiled = ""
        self.not_faster: dict[tuple[Any, ...], str] = {}
        """Why not, by network and sizes of batch: the next seed's is no faster either."""
        self.epoch_seconds: float | None = None
        self.stint = config["stint"]

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next order; everything of the last one is dropped.

        Raises WorkerUsedUpError where something stays that no new process would have.
        """
        self._forget()
        self._look_at_memory()
        if self.used_up:
            raise WorkerUsedUpError(self.used_up)
        if gc.get_freeze_count() == 0:
            # torch and Ray are loaded by now: from here on only what trials make is looked through
            gc.freeze()
        self.stint = new_config["stint"]
        return True

    def step(self) -> dict[str, Any]:
        """One epoch; the first step of a stint begins it."""
        assert self.stint is not None
        began = time.perf_counter()
        self.stepping, self.saved = True, False
        trained = self.stint.known_epochs
        try:
            unknown = self._begin() if self.training is None else []
            assert self.training is not None
            trained = self.training.epoch
            if not unknown:
                self._compile_if_it_repays(self.training, self.stint)
            setup_seconds = time.perf_counter() - began
            reports = unknown or [self._train_one_epoch(self.training, self.stint)]
        except WorkerUsedUpError:
            raise
        except StorageError as error:
            if self.leaving:
                raise WorkerUsedUpError(LEAVING) from error  # what it saved last counts
            self._forget()
            self.used_up = "it could not use the storage"  # the next worker may be on another node
            return {"storage": str(error), "node": platform.node()}
        except Exception as error:
            if self.leaving:  # whoever was at work may have made that an error of its own
                raise WorkerUsedUpError(LEAVING) from error
            if self.compiled and not self.compiled.startswith(LEFT_OUT):
                raise CompiledError(f"{type(error).__name__}: {error}") from error
            if not is_out_of_memory(error):
                raise
            if trained or self.device_data is None:
                # it has trained before, or has not begun: others took the memory, a retry may find it
                raise
            self._forget()
            text, _, _ = str(error).partition("\n")
            self.used_up = f"out of memory: {text}"
            return {"infeasible": self.used_up}
        finally:
            self.stepping = False
        return {
            "reports": reports,
            "setup_seconds": setup_seconds,
            "checkpoint_seconds": self.checkpoint_seconds,
            "saved": self.saved,
            "precision": self.training.precision,
            "compiled": self.compiled,
            "device": str(self.training.device),
            "node": platform.node(),
        }

    def cleanup(self) -> None:
        """Called by Ray when the worker ends."""
        self._forget()
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self.ray_handler)

    def _look_at_memory(self) -> None:
        held = own_bytes()
        if self.first_bytes is None:
            self.first_bytes = held  # after a first trial: by now everything is loaded
        elif held > self.first_bytes + MOST_GROWTH:
            self.used_up = f"its memory grew from {self.first_bytes / 2**20:.0f} to {held / 2**20:.0f} MiB"

    def _begin(self) -> list[dict[str, Any]]:
        """Build or load the trial; returns reports that the record lacks."""
        order = self.stint
        assert order is not None
        device = pick_device(self.device_name, self.gpus)
        if self.device_data is None:
            prepare_device(device, self.gpus)
            resident = fits(self.dataset, device, self.gpus)
            self.device_data = place(self.dataset, device, resident=resident)
        state = checkpoint.load(order.folder, order.identity)
        if self.leaving:  # it may have taken that for a damaged file
            raise WorkerUsedUpError(LEAVING)
        # a trial goes on in the precision it began with
        precision = choose_precision(
            order.precision if state is None else state["training"]["precision"],
            order.config.model,
            order.task,
            order.config.batch_size,
            device,
        )
        self.training = Training(
            order.config,
            order.task,
            self.device_data,
            seed=order.seed,
            precision=precision,
            weights=self.weights,
            features=self.features,
        )
        self.reports: list[dict[str, Any]] = []
        if state is not None:
            self.training.load(state["training"])
            self.reports = state["reports"]
        with writing(order.folder):
            self.writer = EventFile(order.folder, order.stint)
            # TensorBoard forgets this step and later ones of an earlier stint
            self._write_event(self.training.epoch + 1, session_log=SessionLog(status=SessionLog.START))
            # at a step that is never forgotten
            self._write_event(0, summary=session_start(f"trial {order.trial}", order.params, time.time()))
        self.last_checkpoint = time.monotonic()
        self.checkpoint_seconds = 0.0
        self.epoch_seconds = None
        # one at its end has nothing to train: it gives its last report again
        return self.reports[min(order.known_epochs, order.task.max_epochs - 1) :]

    def _compile_if_it_repays(self, training: Training, order: Stint) -> None:
        if self.compiled or not training.compilable:
            return
        left = order.task.max_epochs - training.epoch
        sizes = len(training.batch_sizes)
        if not repays(order.compile, training.device, self.epoch_seconds, left, sizes):
            return
        network = (order.config.model, *training.batch_sizes)
        if network in self.not_faster:
            self.compiled = self.not_faster[network]
            return
        self._save_the_unsaved(order)
        self.compiled = training.compile()
        if self.leaving:  # it may have taken that for a fault of the compiler's
            raise WorkerUsedUpError(LEAVING)
        if self.compiled.startswith(LEFT_OUT):
            self.not_faster[network] = self.compiled

    def _save_the_unsaved(self, order: Stint) -> None:
        """A compiler may end the worker, and on a GPU it may keep a signal waiting for a minute."""
        if self.unsaved is not None:
            with writing(order.folder):
                scored = scored_in(self.unsaved["training"], order.config.averaging)
                self._save({**self.unsaved, "scored": scored}, order)

    def _train_one_epoch(self, training: Training, order: Stint) -> dict[str, Any]:
        report = training.run_epoch()
        row = asdict(report)
        self.epoch_seconds = report.seconds - report.validation_seconds
        self.reports.append(row)
        overdue = time.monotonic() - self.last_checkpoint > order.checkpoint_seconds
        began = time.perf_counter()
        with writing(order.folder):
            self._show(report)
            if report.epoch == order.task.max_epochs:
                self._write_event(0, summary=session_end(time.time()))
            state = {
                "identity": order.identity,
                "training": training.state(),
                "reports": self.reports,
            }
            if report.epoch in order.checkpoint_epochs or overdue:
                self._save({**state, "scored": training.scored_weights()}, order)
            else:
                self.unsaved = copied(state)  # on the device, which need not wait for it
        self.checkpoint_seconds = time.perf_counter() - began
        return row

    def _save(self, state: dict[str, Any], order: Stint) -> None:
        self.saving = True
        try:
            self.writer.save()
            checkpoint.save(order.folder, order.stint, state)
        finally:
            self.saving = False
        self.unsaved, self.saved = None, True
        self.last_checkpoint = time.monotonic()
        if self.leaving:
            raise WorkerUsedUpError(LEAVING)

    def _asked_to_leave(self, number: int, frame: Any) -> None:
        """SIGTERM, as where a spot machine is taken away: keep the last epoch at once and give the trial up.

        It goes on elsewhere; no fault is counted.
        """
        self.leaving = True
        if self.saving:
            return  # and leave when that is done
        if self.unsaved is not None and self.stint is not None:
            self.saving = True
            state, self.unsaved = self.unsaved, None
            # the disk may leave with the machine, and torch tells it in its own way: the one before counts
            with suppress(Exception):
                state["scored"] = scored_in(state["training"], self.stint.config.averaging)
                checkpoint.save(self.stint.folder, self.stint.stint, state)
            self.saving = False
        if self.stepping:
            raise WorkerUsedUpError(LEAVING)
        self.ray_handler(number, frame)

    def _show(self, report: EpochReport) -> None:
        values = [
            Summary.Value(tag=name, simple_value=value)
            for name, value in asdict(report).items()
            if name != "epoch" and value is not None
        ]
        self._write_event(report.epoch, summary=Summary(value=values))

    def _write_event(self, step: int, **content: Any) -> None:
        self.writer.write(Event(wall_time=time.time(), step=step, **content))

    def _forget(self) -> None:
        self.training = None
        self.unsaved = None
        self.stint = None
        if self.compiled:
            torch.compiler.reset()  # it keeps code for few networks, and these for good
            self.compiled = ""
        if self.writer is not None:
            with suppress(OSError):  # a full disk; every event was written out before
                self.writer.close()
            self.writer = None
        gc.collect()
        give_back_freed_memory()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def copied(value: Any) -> Any:
    """A nest of containers with its tensors copied, on the device where they are."""
    if isinstance(value, torch.Tensor):
        return value.detach().clone()
    if isinstance(value, dict):
        return {key: copied(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(copied(item) for item in value)
    return value
