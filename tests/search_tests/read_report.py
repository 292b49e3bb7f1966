"""Reading a report again: what stands on the page, and what the record says it should be."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from html.parser import HTMLParser
from statistics import mean, stdev
from typing import Any

import optuna

from search.reporting.page import render
from search.reporting.record import read_record
from search.results import Results, RunFolder

NO_VALUE = "\N{EN DASH}"


class Page(HTMLParser):
    """What a browser would make of the page: shown values, other text, data, and elements."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.values: list[tuple[str, Any, str]] = []
        """Source, value and text of each value."""
        self.other = ""
        self.data: dict[str, Any] = {}
        """JSON by the id of its script."""
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self._open: list[tuple[str, Any]] = []
        self._inside, self._script = "", ""
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = dict(attributes)
        self.elements.append((tag, found))
        if tag in ("script", "style"):
            self._inside, self._script = tag, found.get("id") or ""
        if "data-source" in found:
            assert not self._open, "one value inside another"
            self._open.append((str(found["data-source"]), json.loads(str(found["data-value"]))))
            self._text = ""

    def handle_endtag(self, tag: str) -> None:
        if tag in ("script", "style"):
            self._inside = ""
        if tag == "span" and self._open:
            source, value = self._open.pop()
            self.values.append((source, value, self._text))

    def handle_data(self, data: str) -> None:
        if self._inside:
            if self._script:
                self.data[self._script] = json.loads(data, parse_constant=not_json)
        elif self._open:
            self._text += data
        else:
            self.other += data

    def figure(self, name: str) -> list[dict[str, Any]]:
        return self.data[f"data-{name}"]["data"]


def not_json(word: str) -> None:
    raise AssertionError(f"{word} is no JSON, a browser would stop at it")


def open_page(folder: RunFolder) -> Page:
    return Page(render(read_record(Results(folder.path))))


class Truth:
    """The value of a source, found anew from what is on disk."""

    def __init__(self, folder: RunFolder) -> None:
        study = optuna.load_study(study_name=folder.path.name, storage=f"sqlite:///{folder.database}")
        self.trials, self.attributes = study.trials, study.user_attrs
        self.maximize = study.direction.name == "MAXIMIZE"
        self.settings = json.loads(folder.settings.read_text(encoding="utf-8"))
        file = folder.path / "evaluation.json"
        self.evaluation = json.loads(file.read_text(encoding="utf-8")) if file.exists() else None
        self.confirmed: dict[int, list[float]] = {}
        if f"{study.study_name}/confirm" in optuna.get_all_study_names(f"sqlite:///{folder.database}"):
            again = optuna.load_study(
                study_name=f"{study.study_name}/confirm", storage=f"sqlite:///{folder.database}"
            )
            for trial in again.trials:
                self.confirmed.setdefault(trial.user_attrs["of"], []).append(trial.value or math.nan)

    def of(self, source: str) -> Any:
        kind, _, rest = source.partition(":")
        return getattr(self, f"_{kind.replace('-', '_')}")(rest)

    def _trial(self, rest: str) -> Any:
        number, what, *name = rest.split(":", 2)
        trial = self.trials[int(number)]
        if what == "param":
            return trial.params[name[0]]
        scored = trial.user_attrs.get("outcome") not in ("diverged", "infeasible", "failed")
        last = trial.last_step
        known = {
            "number": trial.number,
            "score": trial.intermediate_values[last] if scored and last else None,
            "epochs": len(trial.intermediate_values),
            "seconds": sum(row["seconds"] for row in trial.user_attrs.get("epochs", ())) or None,
            "outcome": trial.user_attrs.get("outcome") if trial.state.is_finished() else "unfinished",
            "baseline": trial.user_attrs.get("baseline", ""),
            "network_parameters": trial.user_attrs["network_parameters"],
        }
        return known[what]

    def _confirm(self, rest: str) -> Any:
        number, what = rest.split(":")
        scores = self.confirmed[int(number)]
        return {
            "mean": mean(scores),
            "deviation": stdev(scores),
            "seeds": len(scores),
            "gap": self._trial(f"{number}:score") - mean(scores),
        }[what]

    def _search(self, rest: str) -> Any:
        return self.attributes[rest]

    def _evaluation(self, rest: str) -> Any:
        return walk(self.evaluation, rest)

    def _settings(self, rest: str) -> Any:
        return walk(self.settings, rest)

    def _key(self, rest: str) -> Any:
        walk(self.evaluation, rest)
        return rest.rpartition("/")[2]

    def _key_count(self, rest: str) -> int:
        return len(walk(self.evaluation, rest))

    def _parameter(self, rest: str) -> Any:
        assert any(rest in trial.params for trial in self.trials)
        return rest

    def _command(self, rest: str) -> Any:
        return ANY_COMMAND

    def _count(self, rest: str) -> int:
        outcomes = Counter(trial.user_attrs.get("outcome", "unfinished") for trial in self.trials)
        trained = [trial for trial in self.trials if trial.intermediate_values]
        first = [trial for trial in trained if math.isfinite(trial.intermediate_values[1])]
        counts = {
            "trained": len(trained),
            "epochs": sum(len(trial.intermediate_values) for trial in trained),
            "confirmed": len(self.confirmed),
            "compared": len(first),
            "compared-epoch": 1,
        }
        return counts[rest] if rest in counts else outcomes[rest]

    def _time(self, rest: str) -> float:
        stints = [stint for trial in self.trials for stint in trial.user_attrs.get("stints", ())]
        busy = sum(stint["end"] - stint["begin"] for stint in stints)
        wall = max(stint["end"] for stint in stints) - min(stint["begin"] for stint in stints)
        stopped = [t for t in self.trials if t.user_attrs.get("outcome") in ("pruned", "diverged")]
        left = self.settings["task"]["max_epochs"]
        return {
            "training": sum(stint["seconds"]["training"] for stint in stints),
            "busy-share": busy / (2 * wall),
            "spent": 2 * wall,
            "saved": sum(
                (left - len(t.user_attrs["epochs"])) * mean(row["seconds"] for row in t.user_attrs["epochs"])
                for t in stopped
            ),
        }[rest]


ANY_COMMAND = object()


def walk(document: Any, pointer: str) -> Any:
    for key in pointer.split("/")[1:]:
        name = key.replace("~1", "/").replace("~0", "~")
        document = document[int(name)] if isinstance(document, list) else document[name]
    return document


def reads_as(value: Any, text: str) -> bool:
    """Whether a text is a way of writing a value, as exactly as its digits go."""
    if value is None or value == "":
        return text == NO_VALUE
    if isinstance(value, (str, bool)):
        return text == str(value) or (text == value[:16].replace("T", " ") and value[4:5] == "-")
    numbers = [float(part) for part in re.findall(r"-?\d+\.?\d*(?:e-?\d+)?", text.replace(",", ""))]
    if re.fullmatch(r"\d[\d,]*( h| min| s)( \d+( min| s))?", text):  # in one or two units
        units = {"h": 3600, "min": 60, "s": 1}
        seconds = sum(n * units[u] for n, u in zip(numbers, re.findall("h|min|s", text), strict=True))
        return abs(seconds - value) <= (30 if "h" in text else 0.5)
    (number,) = numbers
    digits = len(re.sub(r"e.*", "", text.replace(",", "")).partition(".")[2].rstrip(" %MB"))
    step = 0.5 * 10**-digits * (1 + 1e-6)
    exact = [value, value / 1e6 if "MB" in text else value * 100]
    return any(abs(number - one) <= step for one in exact) or number == float(f"{value:.4g}")


def left_out(page: Page) -> int:
    """How many figures could not be drawn."""
    return sum(attributes.get("class") == "left-out" for _, attributes in page.elements)
