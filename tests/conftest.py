"""For all tests: hypothesis judges results, not how busy the machine is; two processes share two cores."""

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

# two processes with two threads each would wait for one another on two cores; read when numpy is imported
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Ray's workers run at nice 15, which starves them where the other process computes
os.environ.setdefault("RAY_worker_niceness", "0")

import pytest
import s3_storage
from hypothesis import HealthCheck, settings
from s3_storage import TroubledProxy

settings.register_profile(
    "project", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("project")


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """Address of an S3 server on loopback."""
    pytest.importorskip("moto", reason="moto's S3 server is not installed: uv sync")
    with s3_storage.s3_server() as address:
        yield address


@pytest.fixture
def s3_environment(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Endpoint and credentials of the server, for this process and those that it starts."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in {**s3_storage.CREDENTIALS, "AWS_ENDPOINT_URL": s3_server}.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def bucket(s3_server: str, s3_environment: None) -> str:
    """Address of a bucket of the test's own, empty."""
    name = f"bucket-{uuid.uuid4().hex[:8]}"
    s3_storage.make_bucket(s3_server, name)
    return f"s3://{name}"


@pytest.fixture
def proxy(s3_server: str, bucket: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[TroubledProxy]:
    """Stands between this process and the server; makes no trouble until it is told to."""
    proxy = TroubledProxy(s3_server)
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.address)
    yield proxy
    proxy.close()


@pytest.fixture
def cifar10_images() -> Path:
    """The real CIFAR-10 as image files in an archive, which is no part of the project."""
    beside = Path(__file__).parents[2] / "shared/cifar10/cifar10.tar.xz"
    path = Path(os.environ.get("CIFAR10_IMAGES", beside))
    if not path.is_file():
        pytest.skip(
            f"CIFAR10_IMAGES names no archive with train/CLASS/* and test/CLASS/*; nor is there {beside}"
        )
    return path
