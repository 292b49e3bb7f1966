import csv
import io
import math

from search.best_document import best_document
from search.study import StudyRecord
from search.table_formats import render
from search.tables import FACTS, trials_table


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
