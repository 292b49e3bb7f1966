"""What evaluation.json says, as facts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from search.reporting import facts
from search.reporting.facts import Fact, pointer
from search.reporting.record import Record


@dataclass(frozen=True)
class TestedModel:
    """Figures of one model, in the order of `TEST_COLUMNS`."""

    trial: Fact
    name: Fact
    winner: bool
    accuracy: Fact
    low: Fact
    high: Fact
    top_k: list[Fact]
    figures: list[Fact]


@dataclass(frozen=True)
class Sample:
    """One image with its labels."""

    true: Fact
    predicted: Fact
    probability: Fact
    right: bool
    png: str


@dataclass(frozen=True)
class Tested:
    """What evaluation.json says."""

    part: Fact
    is_test: bool
    images: Fact
    reads: Fact
    times: list[Fact]
    models: list[TestedModel]
    top_k: list[Fact]
    """For which k."""
    seeds: Fact
    mean: Fact
    deviation: Fact
    is_of_winner: bool
    """False where another configuration has become the winner since."""
    per_class: list[list[Fact]]
    confused: list[list[Fact]]
    samples: list[Sample]


TEST_COLUMNS = (
    "loss",
    "macro precision",
    "macro recall",
    "macro F1",
    "calibration error",
    "images a second",
    "parameters",
    "size",
)


def tested(record: Record) -> Tested | None:
    """What evaluation.json says; None where nothing has been evaluated."""
    document = record.evaluation
    if document is None or not document["models"]:
        return None
    place, winner = record.tested_winner or record.tested[0]
    top_k = [k for k in winner.get("top_k") or {} if k != "1"]  # that is the accuracy
    return Tested(
        part=facts.text("evaluation:/part", document["part"]),
        is_test=document["part"] == "test",
        images=facts.count("evaluation:/images", document["images"]),
        reads=facts.count("evaluation:/read/count", document["read"]["count"]),
        times=[
            facts.moment(f"evaluation:/read/times/{i}", time)
            for i, time in enumerate(document["read"]["times"])
        ],
        models=[_tested_model(i, model, top_k) for i, model in record.tested],
        top_k=[facts.text(f"key:/models/{place}/top_k/{k}", k) for k in top_k],
        seeds=facts.count("evaluation:/winner/models", document["winner"]["models"]),
        mean=facts.percent("evaluation:/winner/accuracy_mean", document["winner"]["accuracy_mean"]),
        deviation=facts.difference(
            "evaluation:/winner/accuracy_deviation", document["winner"]["accuracy_deviation"], "accuracy"
        ),
        is_of_winner=winner["trial"] == record.winner,
        per_class=_per_class(place, winner),
        confused=_confused(place, winner),
        samples=[_sample(i, sample) for i, sample in enumerate(document.get("samples") or [])],
    )


def _tested_model(place: int, model: dict[str, Any], top_k: list[str]) -> TestedModel:
    def source(*keys: str) -> str:
        return "evaluation:" + pointer("models", place, *keys)

    known = model.get("top_k") or {}
    return TestedModel(
        trial=facts.text(source("trial"), model["trial"]),
        name=facts.text(source("baseline"), model["baseline"]),
        winner=model["winner"],
        accuracy=facts.percent(source("accuracy"), model["accuracy"]),
        low=facts.percent(source("accuracy_low"), model["accuracy_low"]),
        high=facts.percent(source("accuracy_high"), model["accuracy_high"]),
        top_k=[facts.percent(source("top_k", k), known.get(k)) for k in top_k],
        figures=[
            facts.number(source("loss"), model["loss"]),
            facts.percent(source("precision"), model["precision"]),
            facts.percent(source("recall"), model["recall"]),
            facts.percent(source("f1"), model["f1"]),
            facts.number(source("calibration_error"), model["calibration_error"]),
            facts.number(source("images_per_second"), model["images_per_second"], 0),
            facts.count(source("parameters"), model["parameters"]),
            facts.size(source("bytes"), model["bytes"]),
        ],
    )


def _per_class(place: int, model: dict[str, Any]) -> list[list[Fact]]:
    """Class, images, precision, recall and F1; the weakest class first."""
    rows = []
    for i, row in enumerate(model.get("per_class") or []):
        source = f"evaluation:/models/{place}/per_class/{i}"
        shares = [facts.percent(f"{source}/{name}", row[name]) for name in ("precision", "recall", "f1")]
        head = [facts.text(f"{source}/class", row["class"]), facts.count(f"{source}/images", row["images"])]
        rows.append((row["f1"] if facts.is_number(row["f1"]) else -1.0, i, [*head, *shares]))
    return [row for _, _, row in sorted(rows, key=lambda item: item[:2])]


def _confused(place: int, model: dict[str, Any]) -> list[list[Fact]]:
    """True class, predicted class and how many images, the most first."""
    rows = []
    for i, pair in enumerate(model.get("confused") or []):
        source = f"evaluation:/models/{place}/confused/{i}"
        names = [facts.text(f"{source}/{name}", pair[name]) for name in ("true", "predicted")]
        rows.append([*names, facts.count(f"{source}/images", pair["images"])])
    return rows


def _sample(place: int, sample: dict[str, Any]) -> Sample:
    source = f"evaluation:/samples/{place}"
    return Sample(
        true=facts.text(f"{source}/true", sample["true"]),
        predicted=facts.text(f"{source}/predicted", sample["predicted"]),
        probability=facts.percent(f"{source}/probability", sample["probability"]),
        right=sample["true"] == sample["predicted"],
        png=sample["png"],
    )
