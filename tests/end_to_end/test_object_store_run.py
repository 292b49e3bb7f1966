"""A search with real workers whose head is lost: it goes on from the object store, on another machine."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import s3_storage

from search.copies import opened
from search.results import Results
from trainables.remote import RemotePlace

TRIALS, EPOCHS = 3, 4
OPTIONS = (
    "--space=benchmarks.small_space",
    "--dataset=digits",
    f"--trials={TRIALS}",
    f"--max-epochs={EPOCHS}",
    "--asha=none",
    "--max-concurrent=1",
    "--device=cpu",
    "--checkpoint-seconds=0",
    "--no-confirm",
)


def epochs(address: str) -> int:
    """How many the record in the store has."""
    try:
        with opened(address) as folder:
            trials = Results(folder).study.get_trials(deepcopy=False)
    except ValueError:
        return 0
    return sum(len(trial.intermediate_values) for trial in trials)


@pytest.mark.slow
def test_a_search_whose_head_is_lost_goes_on_from_the_store_on_another_machine(
    bucket: str, tmp_path: Path
) -> None:
    address = f"{bucket}/runs/first"
    command = [sys.executable, "-m", "search.run"]

    def environment(machine: str) -> dict[str, str]:
        return {**os.environ, "XDG_CACHE_HOME": str(tmp_path / machine)}

    head = subprocess.Popen(
        [*command, *OPTIONS, "--name=first", f"--storage={bucket}/runs"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment("head"),
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 400
        while epochs(address) < EPOCHS + 1:  # a trial has ended, the next one trains
            assert head.poll() is None, head.communicate()[0]
            assert time.monotonic() < deadline, "no epochs came"
            time.sleep(0.5)
    finally:
        os.kill(head.pid, signal.SIGKILL)
    output = head.communicate()[0]
    shutil.rmtree(tmp_path / "head")

    again = subprocess.run(
        [*command, "--resume", address],
        capture_output=True,
        text=True,
        check=False,
        env=environment("another"),
        timeout=900,
    )
    assert again.returncode == 0, again.stdout + again.stderr
    assert f"everything is in  {address}" in again.stdout
    with opened(address) as folder:
        results = Results(folder)
        trials = results.study.get_trials(deepcopy=False)
    assert results.stopped == "finished"
    assert [trial.user_attrs["outcome"] for trial in trials] == ["complete"] * TRIALS
    assert all(list(trial.intermediate_values) == list(range(1, EPOCHS + 1)) for trial in trials)

    store = RemotePlace(address)
    names = store.tree()
    assert {"report.html", "best/model.safetensors", "trials.csv"} <= set(names)
    for number in range(TRIALS):
        assert [name for name in names if name.startswith(f"trials/{number:05d}/events.")]
    written = [output.encode(), again.stdout.encode(), again.stderr.encode()]
    written += [store.read(name) for name in names]
    for secret in (s3_storage.SECRET, s3_storage.CREDENTIALS["AWS_ACCESS_KEY_ID"]):
        assert not [content for content in written if secret.encode() in content]
