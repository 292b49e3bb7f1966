import math
import sqlite3
import subprocess
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace

import optuna
import pytest
import sqlalchemy
from optuna.trial import TrialState

import search.database
from search.database import load_study, open_storage, sqlite_url
from search.study import StudyRecord

OUTCOMES = {
    "complete": TrialState.COMPLETE,
    "pruned": TrialState.PRUNED,
    "diverged": TrialState.PRUNED,
    "infeasible": TrialState.PRUNED,
    "failed": TrialState.FAIL,
    None: TrialState.RUNNING,
}


@pytest.fixture
def stored(tmp_path, new_database):
    new_database(tmp_path / "study.db")
    record = StudyRecord("mine", "maximize", sqlite_url(tmp_path / "study.db"))
    record.set_attributes({"space": "cnn", "many": [1, {"a": None}]})
    yield record
    record.close()


def fill(record, new_trial):
    for number, outcome in enumerate(OUTCOMES):
        scores = {1: 0.25, 3: math.nan if outcome == "diverged" else 0.5 + number / 100}
        scores = {} if outcome == "infeasible" else scores
        params = {"lr": 0.125 * number, "width": number, "norm": "batch", "bias": True}
        baseline = "plain" if number == 0 else ""
        assert new_trial(record, params, scores, outcome, baseline, config={"model": [1, 2]}) == number
        if outcome is None:
            record.note(number, {"stints": 1})
            record.note(number, {"stints": 2, "error": "late\nnight"})


def facts(trial):
    values = {
        step: "nan" if math.isnan(value) else value for step, value in trial.intermediate_values.items()
    }
    system = {key: value for key, value in trial.system_attrs.items() if key.startswith("constraints")}
    return (
        trial.number,
        trial.state,
        trial.params,
        trial.distributions,
        trial.value if trial.state == TrialState.COMPLETE else None,
        values,
        trial.user_attrs,
        system,
        trial.constraints,
    )


def test_memory_and_disk_agree_for_every_outcome(stored, new_trial, tmp_path):
    fill(stored, new_trial)
    stored.flush(force=True)
    in_memory = stored.trials()
    on_disk = load_study(tmp_path / "study.db")
    assert [facts(trial) for trial in on_disk.trials] == [facts(trial) for trial in in_memory]
    assert on_disk.user_attrs == stored.study.user_attrs == {"space": "cnn", "many": [1, {"a": None}]}
    assert on_disk.direction == stored.study.direction
    assert on_disk.study_name == "mine"
    assert [trial.state for trial in on_disk.trials] == list(OUTCOMES.values())
    assert on_disk.trials[-1].user_attrs["stints"] == 2
    assert on_disk.trials[0].value == on_disk.trials[0].intermediate_values[3] == 0.5
    assert math.isnan(on_disk.trials[2].intermediate_values[3])


def test_times_are_read_from_disk_as_they_are_in_memory(stored, new_trial, tmp_path):
    fill(stored, new_trial)
    for here, there in zip(stored.trials(), load_study(tmp_path / "study.db").trials, strict=True):
        assert there.datetime_start == here.datetime_start
        assert (there.datetime_complete is None) == (here.datetime_complete is None)
        if here.datetime_complete is not None:
            assert there.datetime_complete == here.datetime_complete


def test_what_optuna_writes_of_a_trial_is_what_is_written(new_database, tmp_path):
    """Row by row, in a study of its own storage and in one of ours."""

    def suggest(trial):
        trial.suggest_float("rate", 1e-4, 1.0, log=True)
        trial.suggest_float("share", 0.0, 1.0, step=0.25)
        trial.suggest_int("depth", 1, 9, step=2)
        trial.suggest_categorical("norm", ["batch", None, True, 3])

    new_database(tmp_path / "ours.db")
    new_database(tmp_path / "theirs.db")
    record = StudyRecord("mine", "minimize", sqlite_url(tmp_path / "ours.db"))
    theirs = open_storage(sqlite_url(tmp_path / "theirs.db"))
    theirs_id = theirs.create_new_study([optuna.study.StudyDirection.MINIMIZE], "mine")
    for number, (scores, outcome) in enumerate(
        [
            ({1: 0.5, 2: 0.25}, "complete"),
            ({1: math.inf, 2: -math.inf, 3: math.nan}, "diverged"),
            ({}, None),
        ]
    ):
        assert record.ask(optuna.samplers.RandomSampler(seed=number), suggest)[0] == number
        record.begin(number, {"config": {"a": [1, math.nan]}})
        theirs.create_new_trial(theirs_id, template_trial=record.trial(number))
        for epoch, score in scores.items():
            record.report(number, epoch, score)
            theirs.set_trial_intermediate_value(number + 1, epoch, score)
        record.note(number, {"node": "here", "outcome": outcome})
        for key, value in record.trial(number).user_attrs.items():
            theirs.set_trial_user_attr(number + 1, key, value)
        if outcome is not None:
            record.tell(number, outcome, scores[2] if outcome == "complete" else None)
            trial = record.trial(number)
            for key, value in trial.system_attrs.items():
                theirs.set_trial_system_attr(number + 1, key, value)
            theirs.set_trial_state_values(number + 1, trial.state, trial.values)
    record.close()
    assert tables(tmp_path / "ours.db") == tables(tmp_path / "theirs.db")
    theirs.engine.dispose()


def tables(path):
    """All rows of trials, without the moment of their end and the numbers of rows."""
    names = ["trials", "trial_params", "trial_values", "trial_intermediate_values"]
    names += ["trial_user_attributes", "trial_system_attributes"]
    left_out = {"datetime_complete", "param_id", "trial_value_id", "trial_intermediate_value_id"}
    left_out |= {"trial_user_attribute_id", "trial_system_attribute_id"}
    with sqlite3.connect(path) as database:
        database.row_factory = sqlite3.Row
        found = {name: database.execute(f"SELECT * FROM {name}").fetchall() for name in names}
    database.close()
    return {
        name: sorted(str({k: v for k, v in dict(row).items() if k not in left_out}) for row in rows)
        for name, rows in found.items()
    }


def mode(path):
    with sqlite3.connect(path) as database:
        (found,) = database.execute("PRAGMA journal_mode").fetchone()
    database.close()
    return found


@pytest.mark.parametrize(("shared", "expected"), [(False, "wal"), (True, "delete")])
def test_log_beside_the_database_is_for_one_machine_alone(tmp_path, monkeypatch, shared, expected):
    monkeypatch.setattr(search.database, "on_network", lambda path: shared)
    record = StudyRecord("mine", "maximize", sqlite_url(tmp_path / "study.db"))
    record.set_attributes({"number": 1})
    assert mode(tmp_path / "study.db") == expected
    # a reader, who may see the disk as its own, leaves that as it is
    monkeypatch.setattr(search.database, "on_network", lambda path: False)
    assert load_study(tmp_path / "study.db").user_attrs["number"] == 1
    assert mode(tmp_path / "study.db") == expected
    record.close()


def test_disks_of_the_network_are_known_by_what_is_mounted_nearest(tmp_path):
    mounts = tmp_path / "mounts"
    mounts.write_text(
        "/dev/a / ext4 rw 0 0\nhost:/b /far\\040off nfs4 rw 0 0\n/dev/c /far\\040off/near xfs rw 0 0\n"
    )
    assert not search.database.on_network(Path("/runs/study.db"), mounts)
    assert search.database.on_network(Path("/far off/runs/study.db"), mounts)
    assert not search.database.on_network(Path("/far off/near/study.db"), mounts)
    assert not search.database.on_network(Path("/far off/study.db"), tmp_path / "none")


def test_tables_of_another_optuna_are_refused_and_not_written(tmp_path, monkeypatch):
    monkeypatch.setattr("search.rows.SCHEMA", "v9.0.0.a")
    with pytest.raises(ValueError, match="install an Optuna that this project was tested with"):
        open_storage(sqlite_url(tmp_path / "study.db"))


def test_tables_that_an_older_optuna_made_are_refused_with_the_way_out(tmp_path):
    url = sqlite_url(tmp_path / "study.db")
    storage = open_storage(url)
    with storage.engine.begin() as connection:
        connection.execute(sqlalchemy.text("UPDATE alembic_version SET version_num = 'v3.0.0.d'"))
    with pytest.raises(ValueError, match="optuna storage upgrade"):
        open_storage(url)


def test_opening_a_study_again_reads_no_migrations(tmp_path, monkeypatch):
    url = sqlite_url(tmp_path / "study.db")
    open_storage(url)
    monkeypatch.setattr("alembic.script.ScriptDirectory.from_config", None)
    open_storage(url)


def test_what_many_trials_report_is_one_commit(stored, new_trial):
    for _ in range(10):
        new_trial(stored, {"lr": 0.5}, {1: 0.25})
    commits = []
    sqlalchemy.event.listen(stored._disk.storage.engine, "commit", commits.append)
    for number in range(10):
        stored.report(number, 2, 0.5)
        stored.note(number, {"seconds": 2.0})
    stored.flush(force=True)
    assert len(commits) == 1


def test_only_diverged_and_infeasible_trials_break_a_constraint(stored, new_trial, tmp_path):
    fill(stored, new_trial)
    broken = {
        trial.user_attrs.get("outcome"): trial.constraints
        for trial in load_study(tmp_path / "study.db").trials
        if any(value > 0 for value in trial.constraints.values())
    }
    assert broken == {"diverged": {"finite": 1.0}, "infeasible": {"feasible": 1.0}}


@pytest.mark.parametrize("where", ["memory", "disk"])
def test_tpe_ranks_a_diverged_trial_below_a_pruned_one(stored, new_trial, tmp_path, where):
    from optuna.samplers._tpe.sampler import _split_trials

    new_trial(stored, {"lr": 0.5}, {1: 0.9, 9: math.nan}, "diverged")
    new_trial(stored, {"lr": 0.5}, {1: 0.1}, "pruned")
    new_trial(stored, {"lr": 0.5}, {}, "infeasible")
    study = stored.study if where == "memory" else load_study(tmp_path / "study.db")
    below, _ = _split_trials(study, study.get_trials(deepcopy=False), 1)
    assert [trial.number for trial in below] == [1]


def test_epoch_reported_twice_keeps_its_first_value(stored, new_trial, tmp_path):
    number = new_trial(stored, {"lr": 0.5}, {1: 0.25})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        stored.report(number, 1, 0.75)
        stored.report(number, 2, math.nan)
        stored.report(number, 2, 0.75)
    stored.flush(force=True)
    for trial in (stored.trial(number), load_study(tmp_path / "study.db").trials[number]):
        assert trial.intermediate_values[1] == 0.25
        assert math.isnan(trial.intermediate_values[2])


def test_reports_wait_for_a_flush_and_an_end_does_not(new_database, new_trial, tmp_path, monkeypatch):
    clock = SimpleNamespace(now=100.0, monotonic=lambda: clock.now)
    monkeypatch.setattr(search.database, "time", clock)
    new_database(tmp_path / "study.db")
    stored = StudyRecord("mine", "maximize", sqlite_url(tmp_path / "study.db"))

    def on_disk():
        return load_study(tmp_path / "study.db").trials[0].intermediate_values

    number = new_trial(stored, {"lr": 0.5}, {1: 0.25})
    stored.flush()
    assert on_disk() == {}
    clock.now += search.database.COMMIT_SECONDS
    stored.flush()
    assert on_disk() == {1: 0.25}
    stored.report(number, 2, 0.5)
    stored.tell(number, "pruned")
    assert on_disk() == {1: 0.25, 2: 0.5}
    stored.close()


def test_trial_is_on_disk_before_it_trains(stored, tmp_path):
    sampler = optuna.samplers.RandomSampler(seed=0)
    number, value = stored.ask(sampler, lambda trial: trial.suggest_float("lr", 0, 1))
    assert load_study(tmp_path / "study.db").trials == []
    stored.begin(number, {"config": 1})
    (trial,) = load_study(tmp_path / "study.db").trials
    assert (trial.params, trial.state) == ({"lr": value}, TrialState.RUNNING)
    assert trial.user_attrs == {"config": 1}


def test_another_process_reads_an_open_record(stored, new_trial, tmp_path):
    fill(stored, new_trial)
    stored.flush(force=True)
    program = (
        "import optuna, sys\n"
        "study = optuna.load_study(study_name='mine', storage=sys.argv[1])\n"
        "print(len(study.trials), study.best_trial.number)\n"
    )
    output = subprocess.check_output([sys.executable, "-c", program, sqlite_url(tmp_path / "study.db")])
    assert output.split() == [b"6", b"0"]
    new_trial(stored, {"lr": 0.5}, {1: 0.25}, "pruned")  # and does not keep it from writing on


def test_sqlite_keeps_a_write_ahead_log(stored, tmp_path):
    storage = open_storage(sqlite_url(tmp_path / "study.db"), writes=True)
    with storage.engine.connect() as connection:
        assert connection.execute(sqlalchemy.text("PRAGMA journal_mode")).scalar() == "wal"
        assert connection.execute(sqlalchemy.text("PRAGMA synchronous")).scalar() == 1
    storage.engine.dispose()


def test_closed_record_has_written_everything(stored, new_trial, tmp_path):
    new_trial(stored, {"lr": 0.5}, {1: 0.25})
    stored.close()
    assert load_study(tmp_path / "study.db").trials[0].intermediate_values == {1: 0.25}


def test_baseline_gets_its_parameters_and_its_name(stored):
    sampler = optuna.samplers.RandomSampler(seed=0)

    def suggest(trial):
        return trial.suggest_float("lr", 0, 1), trial.suggest_int("width", 1, 8)

    number, config = stored.ask(sampler, suggest, ("plain", {"lr": 0.5, "width": 3}))
    stored.begin(number, {})
    assert config == (0.5, 3)
    assert stored.trial(number).user_attrs == {"baseline": "plain"}


def test_score_goes_with_complete_alone(stored, new_trial):
    number = new_trial(stored, {"lr": 0.5}, {1: 0.25})
    with pytest.raises(AssertionError):
        stored.tell(number, "pruned", 0.25)
    with pytest.raises(AssertionError):
        stored.tell(number, "complete")


def test_database_that_is_missing_or_empty_is_refused_in_one_line(tmp_path):
    with pytest.raises(ValueError, match=r"study\.db does not exist: give the folder of a run"):
        load_study(tmp_path / "study.db")
    open_storage(sqlite_url(tmp_path / "study.db")).engine.dispose()
    with pytest.raises(ValueError, match="holds no study"):
        load_study(tmp_path / "study.db")


def test_a_path_with_any_character_is_where_the_record_lies(tmp_path: Path) -> None:
    path = tmp_path / "a?b#c d%20.db"
    StudyRecord("test", "maximize", sqlite_url(path)).close()
    assert path.is_file()
    assert load_study(path).study_name == "test"


def test_a_damaged_record_is_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "study.db"
    path.write_bytes(b"this is no database at all" * 100)
    with pytest.raises(ValueError, match=r"study\.db is damaged"):
        load_study(path)


def test_a_study_cannot_be_read_before_its_tables_are_whole(tmp_path, monkeypatch):
    """Whoever opens a file without them makes them too, and may break the search that is doing it."""
    path = tmp_path / "study.db"
    manager = optuna.storages._rdb.storage._VersionManager
    stamp, seen = manager._set_alembic_revision, []

    def look(self, revision):
        seen.append(path.exists())
        stamp(self, revision)

    monkeypatch.setattr(manager, "_set_alembic_revision", look)
    path.with_name("study.db.new").write_text("of a search that was killed here")
    StudyRecord("mine", "maximize", sqlite_url(path)).close()
    assert seen == [False]
    assert load_study(path).study_name == "mine"
    assert not path.with_name("study.db.new").exists()


def test_what_a_value_is_can_be_read_by_optunas_own_tools(stored, tmp_path):
    stored.name_metric("validation accuracy")
    assert stored.study.metric_names == ["validation accuracy"]
    assert load_study(tmp_path / "study.db").metric_names == ["validation accuracy"]
