"""A run folder for tests of the report: the real controller over learning curves that nobody trained."""

from __future__ import annotations

import base64
import heapq
import io
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import optuna

from search.controller import Controller, Plan, Rule, Work
from search.database import sqlite_url
from search.final import PLAN, plan_of
from search.results import RunFolder
from search.sampler import samplers
from search.study import StudyRecord

BEGAN = 1_790_000_000.0
Suggest = Callable[[optuna.Trial], Any]


def suggest(trial: optuna.Trial) -> dict[str, Any]:
    """A small space with a choice that depends on another."""
    params = {
        "rate": trial.suggest_float("rate", 1e-4, 1e-1, log=True),
        "width": trial.suggest_int("width", 8, 64),
        "norm": trial.suggest_categorical("norm", ["batch", "layer", "none"]),
        "flip": trial.suggest_categorical("flip", [True, False]),
    }
    if params["norm"] != "none":
        params["momentum"] = trial.suggest_float("momentum", 0.1, 0.9)
    return params


def report(params: Mapping[str, Any], epoch: int) -> dict[str, float]:
    """What an epoch of these parameters would report: the nearer the rate to 0.01, the better."""
    rate = next((value for value in params.values() if isinstance(value, float)), 0.01)
    quality = 1 / (1 + abs(math.log10(rate) + 2))
    accuracy = quality * (1 - 0.6 / epoch)
    return {
        "epoch": epoch,
        "train_loss": 1.2 - accuracy,
        "train_accuracy": min(1.0, accuracy + 0.02),
        "val_loss": 1.3 - accuracy if rate < 0.09 else math.nan,
        "val_accuracy": accuracy,
        "val_macro_f1": accuracy - 0.01,
        "learning_rate": rate,
        "images_per_second": 1000.0,
        "seconds": 10.0 + 10 * quality,
        "validation_seconds": 2.0,
    }


def make_run(
    path: Path,
    template: Callable[[Path], None],
    *,
    trials: int = 12,
    max_epochs: int = 9,
    slots: int = 2,
    rule: Rule = "promote",
    sampler: str = "random",
    space: Suggest = suggest,
    baselines: Mapping[str, Mapping[str, Any]] | None = None,
    most_params: int | None = None,
    attributes: Mapping[str, Any] | None = None,
    metric: Literal["accuracy", "macro_f1", "loss"] = "accuracy",
    stop_after: int | None = None,
) -> RunFolder:
    """A search on `slots` slots in made-up time, written to the folder `path`; `template` makes its database.

    `most_params` limits the parameter `width`; the search is cut off after `stop_after` epochs.
    """
    folder = RunFolder(path)
    path.mkdir(parents=True)
    template(folder.database)
    direction = "minimize" if metric == "loss" else "maximize"
    record = StudyRecord(path.name, direction, sqlite_url(folder.database))
    record.set_attributes(
        {"run": path.name, "space": "cnn", "dataset": "digits", "note": "", "metric": metric}
        | dict(attributes or {})
    )

    def limit(config: Any) -> tuple[str | None, dict[str, Any]]:
        width = config.get("width", 8)
        too_many = most_params is not None and width > most_params
        return f"{width} is too wide" if too_many else None, {"network_parameters": 1000 * width}

    controller = Controller(
        record,
        Plan(min_epochs=1, max_epochs=max_epochs, reduction_factor=3, rule=rule, trials=trials),
        suggest=space,
        sampler=samplers(sampler, 0),
        limit=limit,
        baselines=baselines,
    )
    now = _train(controller, slots, f"val_{metric}", stop_after)
    if controller.finished:
        controller.finish()
    stopped = "finished" if controller.finished else "interrupted"
    record.set_attributes({"stopped": stopped, "seconds": now - BEGAN})
    record.close()
    folder.write_json(
        "settings.json",
        {
            "command": f"uv run python -m search.run --space=cnn --trials={trials}",
            "settings": {"seed": 0, "study_storage": "auto"},
            "study": path.name,
            "task": {"max_epochs": max_epochs, "classes": 3},
            "versions": {"python": "3.11.9", "torch": "2.15.0"},
        },
    )
    return folder


def _train(controller: Controller, slots: int, score: str, stop_after: int | None) -> float:
    """Train until nothing is left to do, half a second between two stints; returns when that was."""
    now, ends = BEGAN, []  # a heap of when an epoch ends, its trial, the work and its epoch
    params: dict[int, Mapping[str, Any]] = {}

    def begin(work: Work, epoch: int, at: float) -> None:
        row = report(params[work.trial], epoch)
        heapq.heappush(ends, (at + row["seconds"] + 1.0, work.trial, epoch, work))

    while stop_after is None or controller.epochs < stop_after:
        while len(ends) < slots and (work := controller.next_work()) is not None:
            params[work.trial] = controller.record.trial(work.trial).params
            controller.observe_time(work.trial, begin=now + 0.5)
            begin(work, work.known_epochs + 1, now + 0.5)
        if not ends:
            break
        now, number, epoch, work = heapq.heappop(ends)
        row = report(params[number], epoch)
        controller.observe_time(number, end=now)
        spent = {"training": row["seconds"] - 2.0, "validation": 2.0, "checkpoint": 0.25, "setup": 0.5}
        controller.observe(number, {"node": "here"}, spent)
        if controller.report(number, row, row[score]):
            begin(work, epoch + 1, now)
    return now


def add_confirmed(folder: RunFolder, scores: Mapping[int, list[float]], maximize: bool = True) -> None:
    """The study `NAME/confirm`: scores of new seeds by trial of the search."""
    search = optuna.load_study(study_name=folder.path.name, storage=sqlite_url(folder.database))
    search.set_user_attr(PLAN, plan_of(list(scores), max(map(len, scores.values()))))
    study = optuna.create_study(
        study_name=f"{folder.path.name}/confirm",
        storage=sqlite_url(folder.database),
        direction="maximize" if maximize else "minimize",
    )
    for number, values in scores.items():
        for seed, value in enumerate(values):
            epochs = [report({"rate": 0.01}, epoch) for epoch in (1, 2, 3)]
            study.add_trial(
                optuna.trial.create_trial(
                    value=value, user_attrs={"of": number, "seed": seed, "epochs": epochs}
                )
            )


def evaluation(trials: Mapping[int, str], winner: int, names: list[str], **changes: Any) -> dict[str, Any]:
    """An evaluation.json: two models of the winner and one of each of the other `trials` (name by number)."""
    draw = np.random.default_rng(0)
    models = [_model(winner, "", names, draw) for _ in range(2)]
    models += [_model(number, name, names, draw) for number, name in trials.items()]
    accuracies = [model["accuracy"] for model in models[:2]]
    return {
        "run": "mine",
        "dataset": "digits",
        "note": "",
        "part": "test",
        "images": 30 * len(names),
        "class_names": names,
        "confirmed": False,
        "read": {"count": 1, "times": ["2026-11-21T10:20:30+00:00"]},
        "models": models,
        "winner": {
            "models": 2,
            "accuracy_mean": float(np.mean(accuracies)),
            "accuracy_deviation": float(np.std(accuracies, ddof=1)),
        },
        "samples": [
            {"true": names[0], "predicted": names[i % 2], "probability": 0.5 + i / 10, "png": _png(i)}
            for i in range(4)
        ],
    } | changes


def _model(trial: int, baseline: str, names: list[str], draw: np.random.Generator) -> dict[str, Any]:
    confusion = draw.integers(0, 4, (len(names), len(names))) + np.eye(len(names), dtype=int) * 20
    right, rows, columns = np.diag(confusion), confusion.sum(1), confusion.sum(0)
    precision, recall = right / columns, right / rows
    f1 = 2 * precision * recall / (precision + recall)
    wrong = confusion - np.diag(right)
    pairs = [divmod(int(place), len(names)) for place in wrong.argsort(axis=None)[::-1][:5]]
    accuracy = float(right.sum() / rows.sum())
    return {
        "folder": "best",
        "trial": trial,
        "baseline": baseline,
        "winner": baseline == "",
        "accuracy": accuracy,
        "accuracy_low": accuracy - 0.0213,
        "accuracy_high": accuracy + 0.0187,
        "loss": float(draw.uniform(0.1, 1)),
        "top_k": {"1": accuracy, "3": 0.9987},
        "precision": float(precision.mean()),
        "recall": float(recall.mean()),
        "f1": float(f1.mean()),
        "per_class": [
            {
                "class": name,
                "images": int(rows[i]),
                "precision": precision[i],
                "recall": recall[i],
                "f1": f1[i],
            }
            for i, name in enumerate(names)
        ],
        "confusion": confusion.tolist(),
        "confused": [
            {"true": names[i], "predicted": names[j], "images": int(wrong[i, j])}
            for i, j in pairs
            if wrong[i, j]
        ],
        "calibration_error": float(draw.uniform(0, 0.1)),
        "images_per_second": float(draw.uniform(1000, 9000)),
        "parameters": int(draw.integers(1000, 9_000_000)),
        "bytes": int(draw.integers(1000, 90_000_000)),
    }


def _png(shade: int) -> str:
    from PIL import Image

    file = io.BytesIO()
    Image.new("RGB", (8, 8), (60 * shade, 90, 120)).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode("ascii")


def write_evaluation(folder: RunFolder, document: Mapping[str, Any]) -> None:
    """Put an evaluation into a run folder."""
    (folder.path / "evaluation.json").write_text(json.dumps(document), encoding="utf-8")
