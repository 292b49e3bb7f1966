"""A run in an object store: the store may be away for a minute, and the head for good."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest
from hosts import ENVIRONMENT, SHARED
from own_cluster import OwnCluster, own_cluster, wait_until

from benchmarks import fault_evidence

pytestmark = [
    pytest.mark.slow,
    pytest.mark.alone,
    pytest.mark.timeout(1500),
]

TRIALS, EPOCHS = 2, 40
AWAY_SECONDS = 60
STORAGE = "s3://runs"
SERVER = "http://10.77.0.5:5000"
"""On the fifth host, by its address: pyarrow would ask a name server for a name, and there is none."""
SECRETS = {"AWS_ACCESS_KEY_ID": "AKIAHIDDENHIDDEN", "AWS_SECRET_ACCESS_KEY": "dontshowthistoanybody"}
S3 = {
    **SECRETS,
    "AWS_ENDPOINT_URL": SERVER,
    "AWS_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}
SEARCH = (
    "python -m search.run --space paced_space --dataset digits --asha none --sampler random --precision fp32 "
    f"--no-confirm --trials {TRIALS} --max-epochs {EPOCHS} --max-concurrent {TRIALS} --checkpoint-seconds 5 "
    f"--wait-for {TRIALS}cpu --address auto --storage {STORAGE}"
)


@pytest.fixture(scope="module")
def cluster() -> Iterator[OwnCluster]:
    """Two workers, and a host with an S3 server."""
    with own_cluster("one", "two", besides=["store"], variables=S3) as cluster:
        store = cluster.network["store"]
        process = store.start(f"{ENVIRONMENT}/bin/python -m moto.server -H 0.0.0.0 -p 5000", "moto.log")
        # the workers are set up meanwhile
        patience = "--retry 240 --retry-delay 1 --retry-connrefused"
        store.run(f"curl --silent --fail {patience} --request PUT {SERVER}/runs", timeout=400)
        assert process.poll() is None
        assert store.address in SERVER
        yield cluster


class Run:
    """A run in the store, and the search that works on it."""

    def __init__(self, cluster: OwnCluster, name: str) -> None:
        self.cluster, self.name = cluster, name
        self.slow = cluster.network.shared / "slow"
        self.slow.touch()
        self.log = Path()
        self.search: subprocess.Popen[bytes]

    def begin(self, command: str) -> None:
        """Start the search, or go on with it."""
        log = f"{self.name}.log"
        self.search = self.cluster.exec_in_background(command, log)
        self.log = self.cluster.laptop.home(log)

    def stored(self, word: str) -> dict[str, str]:
        """Hashes of the run's objects that have this word in their name."""
        asked = f"curl --silent '{SERVER}/runs?list-type=2&prefix={self.name}/'"
        said = self.cluster.network["store"].run(asked, check=False)
        found = re.findall(r"<Key>(.*?)</Key>.*?<ETag>(.*?)</ETag>", said, re.DOTALL)
        return {name: digest for name, digest in found if word in name}

    def copied(self) -> Path:
        """A folder with a copy of all its objects."""
        store = self.cluster.network["store"]
        keys = {"access_key": S3["AWS_ACCESS_KEY_ID"], "secret_key": S3["AWS_SECRET_ACCESS_KEY"]}
        code = (
            f"from pyarrow import fs; s3 = fs.S3FileSystem(endpoint_override='{SERVER}', **{keys}); "
            f"fs.copy_files('runs/{self.name}', '{SHARED}/copied', s3, fs.LocalFileSystem())"
        )
        store.run(f'python -c "{code}"')
        return self.cluster.network.shared / "copied"

    def wait_for(self, condition: Callable[[], bool]) -> float:
        """Until this holds; returns the seconds that took."""
        began = time.monotonic()
        wait_until(condition, 300, lambda: self.log.read_text(errors="replace"), self.search)
        return time.monotonic() - began

    def finish(self) -> pd.DataFrame:
        """Let it go on at full speed to its end; returns the trials."""
        self.slow.unlink()
        assert self.search.wait(timeout=400) == 0, self.log.read_text(errors="replace")
        table = f"{self.name}.csv"
        read = f"from search.results import Results; Results('{STORAGE}/{self.name}').trials"
        self.cluster.exec(f"python -c \"{read}.to_csv('{SHARED}/{table}')\"")
        return pd.read_csv(self.cluster.network.shared / table)


def test_a_store_that_is_away_for_a_minute_is_waited_for(
    cluster: OwnCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Run(cluster, "away")
    run.begin(f"{SEARCH} --name away")
    run.wait_for(lambda: len(run.stored("checkpoint-")) == TRIALS)
    store = cluster.network["store"]
    cluster.network.cut(store)
    time.sleep(5)  # what was under way may still arrive
    before = run.stored("checkpoint-")
    time.sleep(AWAY_SECONDS - 5)
    assert run.stored("checkpoint-") == before, "nothing reaches it"
    cluster.network.join(store)
    seconds = run.wait_for(lambda: run.stored("checkpoint-") != before)
    trials = run.finish()
    with capsys.disabled():
        print(f"\nstore away for {AWAY_SECONDS} s: a checkpoint {seconds:.0f} s after it is back")
    assert trials["outcome"].tolist() == ["complete"] * TRIALS
    assert trials["epochs"].tolist() == [EPOCHS] * TRIALS
    assert len(run.stored("events.")) == TRIALS, "one stint each: no trial had to be given out again"


def test_a_search_whose_head_is_lost_goes_on_on_a_fresh_cluster(
    cluster: OwnCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Run(cluster, "lost")
    run.begin(f"{SEARCH} --name lost")
    run.wait_for(lambda: "lost/study.db" in run.stored("study"))
    first = run.stored("study")
    # a record that knows of the trials
    run.wait_for(lambda: len(run.stored("checkpoint-")) == TRIALS and run.stored("study") != first)
    cluster.network.replace(cluster.head)
    run.search.kill()
    run.search.wait()
    before = run.stored("events.").keys()

    began = time.monotonic()
    cluster.down()
    cluster.up()
    run.begin(f"python -m search.run --resume {STORAGE}/lost --address auto --wait-for {TRIALS}cpu")
    run.wait_for(lambda: len(run.stored("events.").keys() - before) > 0)  # of a new stint
    seconds = time.monotonic() - began
    trials = run.finish()
    stint = next(iter(run.stored("events.").keys() - before)).removeprefix("lost/")
    copied = run.copied()
    assert fault_evidence.trained_epochs(copied / stint)[0] > 1, "from the checkpoint"
    files = {path.relative_to(copied).as_posix(): path for path in copied.rglob("*") if path.is_file()}
    assert {"report.html", "trials.csv", "best/model.safetensors"} <= files.keys()
    for name, path in files.items():
        assert not [secret for secret in SECRETS.values() if secret.encode() in path.read_bytes()], name
    with capsys.disabled():
        print(f"\nhead lost: a checkpoint is stored {seconds:.0f} s after `ray down` and `ray up` begin")
    assert trials["outcome"].tolist() == ["complete"] * TRIALS
    assert trials["epochs"].tolist() == [EPOCHS] * TRIALS
