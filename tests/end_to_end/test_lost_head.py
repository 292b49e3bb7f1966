"""A head that dies takes its search with it; from the storage it goes on, on a fresh cluster."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator

import pandas as pd
import pytest
from hosts import ENVIRONMENT, SHARED, why_not
from own_cluster import OwnCluster, own_cluster, wait_until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(why_not() is not None, reason=str(why_not())),
]

TRIALS, EPOCHS = 3, 30
BUCKET = "http://store:5000/runs"
S3 = {
    "AWS_ENDPOINT_URL": "http://store:5000",
    "AWS_ACCESS_KEY_ID": "anybody",
    "AWS_SECRET_ACCESS_KEY": "anything",
    "AWS_REGION": "us-east-1",
}


@pytest.fixture(scope="module")
def cluster() -> Iterator[OwnCluster]:
    """Two workers, and a host with an S3 server where one is installed."""
    with own_cluster("one", "two", besides=["store"], variables=S3) as cluster:
        if importlib.util.find_spec("moto") is not None:
            store = cluster.network["store"]
            process = store.start(f"{ENVIRONMENT}/bin/python -m moto.server -H 0.0.0.0 -p 5000", "moto.log")
            made = f"curl --silent --fail --retry 30 --retry-connrefused --request PUT {BUCKET}"
            assert process.poll() is None
            store.run(made)
        yield cluster


@pytest.fixture(params=["disk", "s3"])
def storage(request: pytest.FixtureRequest) -> tuple[str, str]:
    """An address for --storage, and a command that lists the files there."""
    if request.param == "disk":
        return str(SHARED), f"find {SHARED}/lost"
    if importlib.util.find_spec("moto") is None:
        pytest.skip("moto's S3 server is not installed: uv sync")
    return "s3://runs", f"curl --silent '{BUCKET}?list-type=2&prefix=lost/'"


def test_a_search_whose_head_is_lost_goes_on_on_a_fresh_cluster(
    cluster: OwnCluster, storage: tuple[str, str]
) -> None:
    address, listing = storage
    slow = cluster.network.shared / "slow"
    slow.touch()
    search = cluster.exec_in_background(
        "python -m search.run --space paced_space --dataset digits --asha none --sampler random "
        f"--precision fp32 --no-confirm --trials {TRIALS} --max-epochs {EPOCHS} --max-concurrent 2 "
        f"--checkpoint-seconds 5 --wait-for 2cpu --address auto --storage {address} --name lost",
        "lost.log",
    )

    def recorded_and_trained() -> bool:
        files = cluster.network["store"].run(listing, check=False)
        return "study.db" in files and files.count("checkpoint") >= 2

    log = cluster.laptop.home("lost.log")
    wait_until(recorded_and_trained, 150, lambda: log.read_text(errors="replace"), search)
    cluster.network.replace(cluster.head)
    search.kill()
    search.wait()
    slow.unlink()

    cluster.down()
    cluster.up()
    cluster.exec(f"python -m search.run --resume {address}/lost --address auto --wait-for 2cpu")
    table = SHARED / "lost.csv"
    save = f"from search.results import Results; Results('{address}/lost').trials.to_csv('{table}')"
    cluster.exec(f'python -c "{save}"')
    trials = pd.read_csv(cluster.network.shared / table.name)
    assert trials["outcome"].tolist() == ["complete"] * TRIALS
    assert trials["epochs"].tolist() == [EPOCHS] * TRIALS
