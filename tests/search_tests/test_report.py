"""Every number on the page comes from the study or from evaluation.json, and no name is taken for markup."""

from __future__ import annotations

import itertools
import json
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from statistics import mean
from typing import Any

import optuna
import pytest
from made_up_run import add_confirmed, evaluation, make_run, report, write_evaluation
from PIL import Image
from read_report import ANY_COMMAND, NO_VALUE, Page, Truth, left_out, open_page, reads_as

from search.best_document import best_document
from search.report import main
from search.reporting import derived
from search.reporting.page import write_report
from search.reporting.record import read_record
from search.results import Results, RunFolder

NAMES = ["cat", "dog", "ship"]
PLAIN = {"rate": 0.03, "width": 16, "norm": "none", "flip": False}
WIDE = {"rate": 0.01, "width": 60, "norm": "batch", "flip": True, "momentum": 0.5}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, new_database: Callable[[Path], None]) -> RunFolder:
    """A finished search with baselines, one of them infeasible, confirmed and evaluated."""
    path = tmp_path_factory.mktemp("report") / "mine"
    baselines = {"plain": PLAIN, "wide": WIDE}
    made = make_run(path, new_database, baselines=baselines, most_params=58, trials=20)
    best = [row["trial"] for row in best_document(Results(path).study, 5)["trials"]]
    add_confirmed(made, {best[0]: [0.81, 0.83, 0.86], best[1]: [0.84, 0.9, 0.91]})
    write_evaluation(made, evaluation({0: "plain"}, best[1], NAMES))
    return made


@pytest.fixture(scope="module")
def page(folder: RunFolder) -> Page:
    return open_page(folder)


def test_every_value_on_the_page_is_what_its_source_says(folder: RunFolder, page: Page) -> None:
    truth = Truth(folder)
    assert len(page.values) > 200
    for source, value, text in page.values:
        known = truth.of(source)
        if known is ANY_COMMAND:
            assert str(folder.path) in text
        elif isinstance(known, float):
            assert value == pytest.approx(known, rel=1e-9), source
        else:
            assert value == known, source
        assert reads_as(value, text), (source, value, text)


def test_no_number_stands_on_the_page_without_its_source(page: Page) -> None:
    rest = page.other.replace("95 %", "").replace("F1", "")
    assert not re.findall(r".{0,30}\d.{0,30}", rest)


def test_a_number_that_is_not_the_value_would_be_noticed() -> None:
    assert reads_as(0.98761, "98.76 %")
    assert not reads_as(0.98761, "98.77 %")
    assert reads_as(7512.0, "2 h 5 min")
    assert not reads_as(7512.0, "2 h 6 min")
    assert reads_as(1234567, "1,234,567")
    assert not reads_as(1234567, "1,234,568")
    assert reads_as(3210000, "3.21 MB")
    assert not reads_as(0.0123, "0.0124")


def test_the_best_mean_of_the_confirmed_is_the_winner_and_its_luck_is_told(
    folder: RunFolder, page: Page
) -> None:
    truth = Truth(folder)
    winner = max(truth.confirmed, key=lambda number: mean(truth.confirmed[number]))
    assert winner != best_document(Results(folder.path).study, 1)["trials"][0]["trial"]
    sources = [source for source, _, _ in page.values]
    assert sources.index(f"confirm:{winner}:mean") < sources.index(f"trial:{winner}:score")
    assert f"confirm:{winner}:gap" in sources
    assert "unconfirmed" not in page.other
    assert "either may be the better one" in page.other


def test_figures_hold_what_the_study_holds(folder: RunFolder, page: Page) -> None:
    truth = Truth(folder)
    curves = {}
    for trace in page.figure("curves"):
        for number, epoch, value in zip(trace["customdata"], trace["x"], trace["y"], strict=True):
            if number is not None:
                curves[number, epoch] = (value, trace["name"])
    assert curves == {
        (trial.number, epoch): (pytest.approx(value, rel=1e-5), trial.user_attrs["outcome"])
        for trial in truth.trials
        for epoch, value in trial.intermediate_values.items()
    }
    *points, best = page.figure("score")
    ended = {c[0]: y for trace in points for c, y in zip(trace["customdata"], trace["y"], strict=True)}
    assert ended == {
        t.number: t.intermediate_values[t.last_step]
        for t in truth.trials
        if t.user_attrs["outcome"] in ("complete", "pruned")
    }
    assert best["y"] == sorted(best["y"])
    assert best["y"][-1] == max(v for t in truth.trials for v in t.intermediate_values.values())
    arrived, went_on = page.figure("survivors")
    at = dict(zip(arrived["x"], arrived["y"], strict=True))
    assert at == Counter(level for t in truth.trials for level in t.user_attrs.get("arrivals", {}))
    on = {level: count for level, count in zip(went_on["x"], went_on["y"], strict=True) if count}
    assert on == Counter(str(level) for t in truth.trials for level in t.user_attrs.get("gone_on", ()))


def test_slots_are_shown_with_every_stint_and_none_holds_two_at_a_time(folder: RunFolder, page: Page) -> None:
    truth = Truth(folder)
    (bars,) = page.figure("slots")
    stints = [stint for trial in truth.trials for stint in trial.user_attrs.get("stints", ())]
    assert len(bars["x"]) == len(stints)
    unit = {"seconds": 1, "minutes": 60, "hours": 3600}
    layout = page.data["data-slots"]["layout"]
    seconds = unit[layout["xaxis"]["title"]["text"]]
    assert sum(bars["x"]) * seconds == pytest.approx(sum(s["end"] - s["begin"] for s in stints), rel=1e-3)
    assert set(bars["y"]) == {1, 2}
    for slot in (1, 2):
        spans = sorted(
            (b, b + x) for b, x, y in zip(bars["base"], bars["x"], bars["y"], strict=True) if y == slot
        )
        assert all(later[0] >= earlier[1] for earlier, later in itertools.pairwise(spans))


def test_time_in_the_figure_is_that_of_the_stints(folder: RunFolder, page: Page) -> None:
    truth = Truth(folder)
    unit = {"seconds": 1, "minutes": 60, "hours": 3600}
    seconds = unit[page.data["data-time"]["layout"]["xaxis"]["title"]["text"].split()[0]]
    shown = {trace["name"]: trace["x"][0] * seconds for trace in page.figure("time")}
    assert shown["training"] == pytest.approx(truth.of("time:training"), rel=1e-3)
    assert shown["saved"] == pytest.approx(truth.of("time:saved"), rel=1e-3)
    spent = sum(value for name, value in shown.items() if name != "saved")
    assert spent == pytest.approx(truth.of("time:spent"), rel=1e-3)


def test_the_confusion_matrix_is_that_of_the_evaluation(folder: RunFolder, page: Page) -> None:
    model = json.loads((folder.path / "evaluation.json").read_text(encoding="utf-8"))["models"][0]
    (heat,) = page.figure("confusion")
    assert heat["customdata"] == model["confusion"]
    assert page.data["data-confusion"]["layout"]["xaxis"]["ticktext"] == NAMES
    for shares, counts in zip(heat["z"], model["confusion"], strict=True):
        assert shares == pytest.approx([count / sum(counts) for count in counts])


def test_learning_curves_of_the_winner_are_its_reports(folder: RunFolder, page: Page) -> None:
    truth = Truth(folder)
    winner = max(truth.confirmed, key=lambda number: mean(truth.confirmed[number]))
    rows = truth.trials[winner].user_attrs["epochs"]
    training, validation, *again = page.figure("winner-loss")
    assert validation["x"] == [row["epoch"] for row in rows]
    assert validation["y"] == [row["val_loss"] for row in rows]
    assert training["y"] == [row["train_loss"] for row in rows]
    assert [trace["name"] for trace in again] == [f"confirming run {n}" for n in (1, 2, 3)]
    assert again[0]["y"] == [report({"rate": 0.01}, epoch)["val_loss"] for epoch in (1, 2, 3)]


def test_importance_is_optunas_own(folder: RunFolder, page: Page) -> None:
    truth = Truth(folder)
    found = derived.importances(truth.trials, maximize=True)
    assert found is not None
    study, values, epoch = found
    assert epoch == 1
    (bars,) = page.figure("importance")
    shown = dict(zip(bars["y"], bars["x"], strict=True))
    assert shown == {study.names[short]: pytest.approx(value) for short, value in values.items()}
    assert max(shown, key=lambda name: shown[name]) == "rate"


def test_pictures_for_papers_are_drawn_and_a_matrix_that_is_there_is_kept(
    tmp_path: Path, new_database: Callable[[Path], None]
) -> None:
    folder = make_run(tmp_path / "mine", new_database, trials=4)
    write_evaluation(folder, evaluation({}, Results(folder.path).best["trial"], NAMES))
    write_report(Results(folder.path))
    for name in ("confusion_matrix.png", "learning_curves.png"):
        with Image.open(folder.path / name) as picture:
            assert min(picture.size) > 400
            assert len(picture.convert("RGB").getcolors(2**24) or []) > 20
    (folder.path / "confusion_matrix.png").write_bytes(b"drawn by the evaluation")
    write_report(Results(folder.path))
    assert (folder.path / "confusion_matrix.png").read_bytes() == b"drawn by the evaluation"


HOSTILE = [
    "<script>alert(1)</script>",
    "\"><img src=x onerror=alert(1)>'",
    "$x$ {{ 7*7 }} %{y}",
    "</script><b>bold</b>",
    "n" * 300,
    "猫と犬",
    "a & b <br> c",
]


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory, new_database: Callable[[Path], None]) -> RunFolder:
    """Everything that can have a name has a bad one."""

    def space(trial: optuna.Trial) -> dict[str, Any]:
        params = {name: trial.suggest_float(name, 0.001, 0.08) for name in HOSTILE}
        return params | {"choice": trial.suggest_categorical("choice", HOSTILE)}

    path = tmp_path_factory.mktemp("hostile") / "mine"
    attributes = dict.fromkeys(("run", "space", "dataset", "note"), HOSTILE[0])
    baseline = dict.fromkeys(HOSTILE, 0.01) | {"choice": HOSTILE[1]}
    made = make_run(
        path, new_database, space=space, attributes=attributes, baselines={HOSTILE[3]: baseline}, trials=12
    )
    winner = Results(path).best["trial"]
    write_evaluation(made, evaluation({0: HOSTILE[3]}, winner, HOSTILE))
    return made


def test_names_from_outside_are_text_and_nothing_else(hostile: RunFolder) -> None:
    page = open_page(hostile)
    assert {tag for tag, _ in page.elements}.isdisjoint({"iframe", "object", "link", "base"})
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)
    assert sum(tag == "script" for tag, _ in page.elements) == len(page.data) + 2
    shown = {text for _, _, text in page.values}
    assert shown >= set(HOSTILE), "each of them reads as it is"
    images = [attributes for tag, attributes in page.elements if tag == "img"]
    assert all(str(attributes["src"]).startswith("data:image/png;base64,") for attributes in images)
    for figure in page.data.values():  # plotly draws some HTML
        texts = [text for text in strings(figure) if "alert" in text or "bold" in text or "猫" in text]
        assert not [text for text in texts if "<" in text]
    assert set(page.data["data-confusion"]["layout"]["xaxis"]["ticktext"]) >= {
        "猫と犬",
        "a &amp; b &lt;br&gt; c",
    }


def strings(document: Any) -> list[str]:
    if isinstance(document, dict):
        return [text for value in document.values() for text in strings(value)]
    if isinstance(document, list):
        return [text for value in document for text in strings(value)]
    return [document] if isinstance(document, str) else []


def test_values_with_bad_names_are_traced_as_well(hostile: RunFolder) -> None:
    truth = Truth(hostile)
    for source, value, text in open_page(hostile).values:
        known = truth.of(source)
        assert known is ANY_COMMAND or value == known or value == pytest.approx(known), source
        assert known is ANY_COMMAND or reads_as(value, text), (source, value, text)


@pytest.mark.parametrize("metric", ["accuracy", "macro_f1", "loss"])
def test_every_metric_is_reported_in_its_own_way(
    tmp_path: Path, new_database: Callable[[Path], None], metric: Any
) -> None:
    folder = make_run(tmp_path / "mine", new_database, metric=metric, trials=9)
    page, truth = open_page(folder), Truth(folder)
    best = Results(folder.path).best
    shown = {source: text for source, _, text in page.values}
    text = shown[f"trial:{best['trial']}:score"]
    assert text == (f"{best['score']:.4f}" if metric == "loss" else f"{100 * best['score']:.2f} %")
    for source, value, text in page.values:
        known = truth.of(source)
        assert known is ANY_COMMAND or (value == pytest.approx(known) and reads_as(value, text)), source
    assert "data-winner-loss" in page.data


def test_what_cannot_be_drawn_is_left_out_with_the_reason(
    tmp_path: Path, new_database: Callable[[Path], None]
) -> None:
    folder = make_run(
        tmp_path / "mine",
        new_database,
        trials=1,
        space=lambda trial: {"rate": trial.suggest_float("rate", 0.01, 0.01)},
    )
    page = open_page(folder)
    assert "data-parallel" not in page.data
    assert "data-importance" not in page.data
    assert "data-curves" in page.data
    assert "at least five trials with a score, and two parameters" in page.other
    assert "No baseline was trained" in page.other
    assert "The test part has not been read" in page.other
    assert "unconfirmed" in page.other


def test_a_run_of_which_no_trial_has_a_score_is_reported(
    tmp_path: Path, new_database: Callable[[Path], None]
) -> None:
    folder = make_run(
        tmp_path / "mine",
        new_database,
        trials=3,
        space=lambda trial: {"rate": trial.suggest_float("rate", 0.095, 0.099)},  # diverges
    )
    page = Page(write_report(Results(folder.path)).read_text(encoding="utf-8"))
    assert "no trial has a score" in page.other
    assert ("count:diverged", 3, "3") in page.values
    assert not (folder.path / "learning_curves.png").exists()


def test_a_run_before_its_first_epoch_and_without_settings_is_reported(
    tmp_path: Path, new_database: Callable[[Path], None]
) -> None:
    folder = make_run(tmp_path / "mine", new_database, stop_after=0)
    folder.settings.unlink()
    page = open_page(folder)
    assert page.data.keys() == {"templates"}
    assert left_out(page) == 8
    assert "no trial has a score" in page.other


def test_a_search_that_is_still_running_is_reported_as_it_stands(
    tmp_path: Path, new_database: Callable[[Path], None]
) -> None:
    folder = make_run(tmp_path / "mine", new_database, stop_after=7)
    page, truth = open_page(folder), Truth(folder)
    shown = {source: value for source, value, _ in page.values}
    assert shown["count:epochs"] == 7
    assert shown["count:unfinished"] == sum(not trial.state.is_finished() for trial in truth.trials) > 0
    assert shown["search:stopped"] == "interrupted"


def test_an_evaluation_of_another_configuration_is_called_outdated(
    tmp_path: Path, new_database: Callable[[Path], None]
) -> None:
    folder = make_run(tmp_path / "mine", new_database)
    best = Results(folder.path).best["trial"]
    write_evaluation(folder, evaluation({}, best, NAMES))
    assert "outdated" not in open_page(folder).other
    write_evaluation(folder, evaluation({}, 0 if best else 1, NAMES))
    page = open_page(folder)
    assert "outdated" in page.other
    assert "Test accuracy" not in page.other


def test_validation_figures_are_not_called_test_figures(
    tmp_path: Path, new_database: Callable[[Path], None]
) -> None:
    folder = make_run(tmp_path / "mine", new_database)
    best = Results(folder.path).best["trial"]
    write_evaluation(folder, evaluation({}, best, NAMES, part="validation"))
    page = open_page(folder)
    assert "Validation accuracy" in page.other
    assert "no test part" in page.other
    assert "Test accuracy" not in page.other
    assert "On the test part" not in page.other


def test_figures_that_are_missing_from_an_evaluation_are_dashes(
    tmp_path: Path, new_database: Callable[[Path], None]
) -> None:
    folder = make_run(tmp_path / "mine", new_database)
    document = evaluation({}, Results(folder.path).best["trial"], NAMES)
    document["models"][0] |= {"loss": None, "calibration_error": None, "confused": [], "top_k": {}}
    document["models"][0]["per_class"][1]["precision"] = None
    document["winner"]["accuracy_deviation"] = None
    write_evaluation(folder, document)
    page = open_page(folder)
    shown = {source: text for source, _, text in page.values}
    assert shown["evaluation:/models/0/loss"] == NO_VALUE
    assert shown["evaluation:/models/0/per_class/1/precision"] == NO_VALUE
    assert "No image was taken for one of another class" in page.other


@pytest.mark.slow
def test_a_thousand_classes_have_no_heat_map(tmp_path: Path, new_database: Callable[[Path], None]) -> None:
    folder = make_run(tmp_path / "mine", new_database, trials=3)
    names = [f"class {number}" for number in range(1000)]
    write_evaluation(folder, evaluation({}, Results(folder.path).best["trial"], names))
    page = Page(write_report(Results(folder.path)).read_text(encoding="utf-8"))
    assert "data-confusion" not in page.data
    assert ("key-count:/class_names", 1000, "1,000") in page.values
    assert (folder.path / "report.html").stat().st_size < 10e6
    assert (folder.path / "confusion_matrix.png").exists()


def test_command_writes_the_page_and_names_it(
    tmp_path: Path, new_database: Callable[[Path], None], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_run(tmp_path / "mine", new_database, trials=2)
    assert main([str(folder.path)]) == 0
    assert capsys.readouterr().out.strip() == str(folder.path / "report.html")
    assert (folder.path / "report.html").read_text(encoding="utf-8").startswith("<!doctype html>")


def test_command_says_in_one_line_what_is_wrong(
    tmp_path: Path, new_database: Callable[[Path], None], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path / "none")]) == 2
    assert "study.db does not exist" in capsys.readouterr().err
    folder = make_run(tmp_path / "mine", new_database, trials=2)
    for content, expected in (("{", "evaluation.json cannot be read"), ("{}", "holds no list of models")):
        (folder.path / "evaluation.json").write_text(content, encoding="utf-8")
        assert main([str(folder.path)]) == 2
        error = capsys.readouterr().err
        assert expected in error
        assert error.count("\n") == 1
    assert not (folder.path / "report.html").exists()


def test_a_record_is_read_once_with_what_followed_the_search(folder: RunFolder) -> None:
    record = read_record(Results(folder.path))
    assert [len(record.final_trials[kind]) for kind in ("confirm", "refit")] == [6, 0]
    assert record.winner == record.confirmed[0].trial
