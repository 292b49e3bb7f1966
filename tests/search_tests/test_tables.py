import csv
import io
import json
import math
from html.parser import HTMLParser
from types import SimpleNamespace

import numpy as np
import optuna
import pytest
import yaml

from search.final import Confirmation, Confirmed
from search.results import RunFolder, write_tables
from search.study import StudyRecord
from search.tables import (
    FACTS,
    best_document,
    best_row,
    confirmed_rows,
    format_score,
    format_value,
    render,
    shown_rows,
    trials_table,
    verdict,
)

NOTE = "digits, not CIFAR-10: no network & 50 % of _nothing_"


@pytest.fixture
def various(record, new_trial):
    """One of each outcome; 2 is best, 1 and 5 are equal, and two are baselines."""
    record.set_attributes({"note": NOTE})
    new_trial(record, {"lr": 0.5, "width": 8}, {1: 0.9, 3: 0.6}, "pruned", "plain", network_parameters=10)
    new_trial(record, {"lr": 0.25, "width": 9}, {1: 0.7}, None)
    new_trial(record, {"lr": 1.0, "depth": 2}, {1: 0.5, 3: 0.8}, "complete", seconds=61.5)
    new_trial(record, {"lr": 0.5}, {1: 0.99, 3: math.nan}, "diverged")
    new_trial(record, {"lr": 0.5}, {}, "infeasible", error="too large")
    new_trial(record, {"lr": 0.5, "width": 7}, {1: 0.7}, "pruned")
    new_trial(record, {"lr": 0.5}, {1: 0.98}, "failed", "deep", error="Trace\nback")
    return record.study


def test_trials_are_ranked_by_their_last_score_best_first(various):
    table = trials_table(various)
    assert list(table["trial"]) == [2, 1, 5, 0, 3, 4, 6]
    assert list(table["rank"].dropna()) == [1, 2, 3, 4]
    assert list(table["score"].dropna()) == [0.8, 0.7, 0.7, 0.6]
    assert list(table["outcome"]) == [
        "complete",
        "unfinished",
        "pruned",
        "pruned",
        "diverged",
        "infeasible",
        "failed",
    ]


def test_losses_are_ranked_the_other_way_and_ties_by_number(new_trial):
    record = StudyRecord("mine", "minimize")
    for loss in (0.5, 0.25, 2.0, 0.25):
        new_trial(record, {"lr": 0.5}, {1: loss}, "pruned")
    assert list(trials_table(record.study)["trial"]) == [1, 3, 0, 2]


def test_diverged_infeasible_and_failed_trials_have_no_score(various):
    table = trials_table(various).set_index("trial")
    assert table.loc[[3, 4, 6], "score"].isna().all()
    assert table.loc[[3, 4, 6], "rank"].isna().all()


def test_score_that_is_not_finite_is_none(record, new_trial):
    new_trial(record, {"lr": 0.5}, {1: math.inf}, None)
    new_trial(record, {"lr": 0.5}, {1: 0.1}, None)
    assert [row["trial"] for row in best_document(record.study, 5)["trials"]] == [1]


def test_outcome_noted_before_the_end_was_told_is_unfinished(record, new_trial):
    number = new_trial(record, {"lr": 0.5}, {1: 0.5})
    record.note(number, {"outcome": "diverged"})
    (row,) = best_document(record.study, 1)["trials"]
    assert (row["outcome"], row["score"]) == ("unfinished", 0.5)


def test_columns_have_one_type_each_and_whole_numbers_stay_whole(various):
    table = trials_table(various)
    assert list(table.columns[: len(FACTS)]) == list(FACTS)
    kinds = {name: str(table[name].dtype) for name in ("rank", "trial", "epochs", "width", "depth", "lr")}
    assert {kind.lower() for name, kind in kinds.items() if name != "lr"} == {"int64"}
    assert kinds["lr"] == "float64"
    assert str(table["score"].dtype) == "float64"
    rows = {row["trial"]: row for row in csv.DictReader(io.StringIO(table.to_csv(index=False)))}
    assert (rows["0"]["width"], rows["0"]["depth"], rows["2"]["depth"]) == ("8", "", "2")
    assert (rows["2"]["rank"], rows["3"]["rank"], rows["0"]["network_parameters"]) == ("1", "", "10")


def test_empty_study_is_an_empty_table(record):
    table = trials_table(record.study)
    assert len(table) == 0
    assert list(table.columns[: len(FACTS)]) == list(FACTS)
    assert math.isnan(table["score"].max())
    for form in ("md", "csv", "json", "yaml", "latex", "html"):
        assert "trial" in render(best_document(record.study, 10), form)


def test_best_are_the_top_and_every_baseline(various):
    assert [row["trial"] for row in best_document(various, 1)["trials"]] == [2, 0, 6]
    assert [row["trial"] for row in best_document(various, 3)["trials"]] == [2, 1, 5, 0, 6]
    assert [row["baseline"] for row in best_document(various, 1)["trials"]] == ["", "plain", "deep"]


def test_configuration_has_the_parameters_of_its_own_branch_with_their_types(various):
    configs = {row["trial"]: row["config"] for row in best_document(various, 10)["trials"]}
    assert configs[0] == {"lr": 0.5, "width": 8}
    assert configs[2] == {"lr": 1.0, "depth": 2}
    assert [type(value) for value in configs[2].values()] == [float, int]


def test_configuration_keeps_none_and_truth_values(record, new_trial):
    params = {"norm": None, "bias": True, "crop": 0, "lr": 2.0, "kind": "0"}
    new_trial(record, params, {1: 0.5}, "pruned")
    new_trial(record, {"lr": 2.0, "bias": True}, {1: 0.4}, "pruned")
    config = best_document(record.study, 1)["trials"][0]["config"]
    assert config == params
    assert [type(value) for value in config.values()] == [type(None), bool, int, float, str]
    assert json.loads(render(best_document(record.study, 1), "json"))["trials"][0]["config"] == params


def test_numbers_of_numpy_become_pythons(record):
    number, _ = record.ask(
        optuna.samplers.RandomSampler(seed=0),
        lambda trial: trial.suggest_float("lr", 0, 1),
        ("", {"lr": np.float64(0.5)}),
    )
    record.begin(number, {})
    record.report(number, 1, np.float64(0.25))
    assert yaml.safe_load(render(best_document(record.study, 1), "yaml"))["trials"][0]["config"] == {
        "lr": 0.5
    }


def test_parameter_called_like_a_fact_does_not_replace_it(record, new_trial):
    new_trial(record, {"epochs": 77, "error": "square", "score": 5.0}, {1: 0.5, 3: 0.75}, "pruned")
    row = trials_table(record.study).iloc[0]
    assert (row["epochs"], row["score"], row["error"]) == (3, 0.75, "")
    assert (row["parameter.epochs"], row["parameter.score"], row["parameter.error"]) == (77, 5.0, "square")
    (best,) = best_document(record.study, 1)["trials"]
    assert (best["epochs"], best["config"]["epochs"]) == (3, 77)
    (exported,) = csv.DictReader(io.StringIO(render(best_document(record.study, 1), "csv")))
    assert (exported["epochs"], exported["parameter.epochs"]) == ("3", "77")


@pytest.mark.parametrize(("form", "load"), [("json", json.loads), ("yaml", yaml.safe_load)])
def test_documents_parse_back(various, form, load):
    text = render(best_document(various, 2), form)
    document = load(text)
    assert document == best_document(various, 2)
    assert document["note"] == NOTE
    assert (document["run"], document["dataset"], document["direction"]) == ("mine", "digits", "maximize")
    assert text.endswith("\n")


def test_csv_parses_back_and_names_the_data_in_each_row(various):
    rows = list(csv.DictReader(io.StringIO(render(best_document(various, 2), "csv"))))
    assert [row["trial"] for row in rows] == ["2", "1", "0", "6"]
    assert {(row["dataset"], row["note"]) for row in rows} == {("digits", NOTE)}
    assert (rows[0]["score"], rows[0]["lr"], rows[0]["depth"], rows[0]["width"]) == ("0.8", "1.0", "2", "")
    assert (rows[2]["parameters"], rows[2]["width"]) == ("10", "8")


def cells(text: str) -> list[list[str]]:
    import re

    lines = [line for line in text.splitlines() if line.startswith("|") and not line.startswith("|:")]
    split = [re.split(r"(?<!\\)\|", line)[1:-1] for line in lines]
    return [[cell.strip().replace(r"\|", "|") for cell in line] for line in split]


def test_markdown_parses_back(various):
    text = render(best_document(various, 1), "md")
    assert f"**Note:** {NOTE}" in text
    assert text.splitlines()[0] == "# mine: space cnn on digits, validation accuracy"
    head, *rows = cells(text)
    assert rows[0] == ["1", "2", "", "complete", "80.00 %", "3", "-", "62"]
    assert dict(zip(head, rows[1], strict=True))["parameters"] == "10"
    assert rows[2][:5] == ["-", "6", "deep", "failed", "-"]
    assert rows[-2:] == [["lr", "1"], ["depth", "2"]]
    assert "## Best configuration: trial 2" in text


def test_markdown_keeps_a_bar_inside_its_cell(record, new_trial):
    new_trial(record, {"kind": "a|b"}, {1: 0.5}, "pruned", "one|two")
    rows = cells(render(best_document(record.study, 1), "md"))
    assert rows[1][2] == "one|two"
    assert rows[-1] == ["kind", "a|b"]


def test_markdown_leaderboard_fits_100_columns(record, new_trial):
    params = {"network_parameters": 1_234_567_890, "seconds": 1234567.0}
    new_trial(record, {"lr": 0.5}, {243: 0.12345}, "complete", "a" * 60, **params)
    for number in range(12):
        new_trial(record, {"lr": 0.5}, {1: number / 100}, "infeasible", **params)
    text = render(best_document(record.study, 10), "md")
    table = text[: text.index("##")]
    assert max(len(line) for line in table.splitlines() if line.startswith("|")) <= 100


def test_without_a_score_nothing_is_called_best(record, new_trial):
    new_trial(record, {"lr": 0.5}, {1: 0.9}, "failed", "plain")
    text = render(best_document(record.study, 1), "md")
    assert best_row(best_document(record.study, 1)) is None
    assert "plain" in text
    assert "Best configuration" not in text
    assert "lr" not in render(best_document(record.study, 1), "html")


def test_latex_parses_back(various):
    text = render(best_document(various, 1), "latex")
    assert r"no network \& 50 \% of \_nothing\_" in text
    body = text[text.index(r"\midrule") : text.index(r"\bottomrule")]
    rows = [line.removesuffix(r"\\").split(" & ") for line in body.splitlines()[1:]]
    assert [row[1].strip() for row in rows] == ["2", "0", "6"]
    assert rows[0][4] == r"80.00 \%"


class Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)

    def handle_data(self, data):
        self.texts.append(data.strip())


def test_html_escapes_names_and_cuts_nothing(record, new_trial):
    evil, long = "<script>alert(1)</script>", "x" * 80
    record.set_attributes({"run": evil, "dataset": evil, "note": f"{NOTE} {evil}"})
    new_trial(record, {evil: 0.5, "kind": evil, "long": long}, {1: 0.5}, "pruned", "<b>&")
    page = Page(render(best_document(record.study, 1), "html"))
    assert "script" not in page.tags
    assert "b" not in page.tags
    assert page.tags.count("table") == 2
    assert {evil, long, "<b>&"} <= set(page.texts)
    assert any(NOTE in text for text in page.texts)


@pytest.mark.parametrize(
    ("score", "metric", "text"),
    [
        (0.81236, "accuracy", "81.24 %"),
        (0.5, "macro_f1", "50.00 %"),
        (1.23456, "loss", "1.2346"),
        (None, "loss", "-"),
    ],
)
def test_scores_for_reading(score, metric, text):
    assert format_score(score, metric) == text


def test_values_for_reading():
    values = (0.00012345678, 1.0, 3, True, None, "batch")
    assert [format_value(value) for value in values] == ["0.0001235", "1", "3", "True", "None", "batch"]


def test_shown_rows_are_text(various):
    assert {type(value) for row in shown_rows(best_document(various, 9)) for value in row.values()} == {str}


def test_run_folder_gets_the_tables(various, tmp_path):
    results = SimpleNamespace(
        folder=RunFolder(tmp_path),
        trials=trials_table(various),
        document=lambda top: best_document(various, top),
    )
    write_tables(results, 2)
    names = ["best.csv", "best.json", "best.md", "trials.csv"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    assert json.loads((tmp_path / "best.json").read_text()) == best_document(various, 2)
    assert len(list(csv.reader((tmp_path / "trials.csv").open(newline="")))) == 8


CONFIRMED = Confirmation(
    planned=6,
    ended=6,
    best=[
        Confirmed(trial=5, baseline="", search_score=0.7, scores=(0.75, 0.77)),
        Confirmed(trial=0, baseline="plain", search_score=0.6, scores=(0.5,), failures=1),
    ],
    failed=[1],
)


def test_the_winner_is_the_one_that_was_confirmed_best(various):
    document = best_document(various, 1, CONFIRMED)
    assert [row["trial"] for row in document["trials"]] == [2, 1, 5, 0, 6], "what was tried is in the table"
    assert best_row(document)["trial"] == 5
    assert verdict(document) == "confirmed: trial 5 earns 76.00 % ± 1.41 % over 2 new seeds"
    seeds = [(row["trial"], row["confirmed"], row["seeds"]) for row in confirmed_rows(document)]
    assert seeds == [("5", "76.00 %", "2"), ("0", "50.00 %", "1, 1 failed"), ("1", "-", "all failed")]
    assert confirmed_rows(document)[1]["deviation"] == "-", "one seed has none"


def test_what_is_still_being_confirmed_is_unconfirmed(various):
    document = best_document(various, 1, Confirmation(planned=6, ended=4, best=[], failed=[]))
    assert verdict(document) == "unconfirmed: 4 of 6 trainings with new seeds have ended"
    assert best_row(document)["trial"] == 2


@pytest.mark.parametrize("form", ["md", "latex", "html"])
def test_every_page_says_whether_the_best_was_confirmed(various, form):
    unconfirmed = render(best_document(various, 1), form)
    assert "nconfirmed: the best of many scores flatters" in unconfirmed
    text = render(best_document(various, 1, CONFIRMED), form)
    assert "nconfirmed" not in text
    assert "onfirmed: trial 5 earns" in text


def test_confirmed_means_stand_beside_the_search_scores_in_a_spreadsheet(various):
    rows = list(csv.DictReader(io.StringIO(render(best_document(various, 1, CONFIRMED), "csv"))))
    confirmed = {row["trial"]: row["confirmed"] for row in rows}
    assert confirmed == {
        "2": "",
        "1": "",
        "5": "0.76",
        "0": "0.5",
        "6": "",
    }
