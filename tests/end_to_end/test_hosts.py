"""The hosts that tests of clusters run on."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest
from hosts import SHARED, hosts

pytestmark = pytest.mark.slow


def test_hosts_have_homes_of_their_own_and_one_shared_disk() -> None:
    with hosts("one", "two") as both:
        one, two = both
        assert one.run("hostname").strip() == "one"
        one.run(f"touch ~/mine /tmp/mine {SHARED}/ours")
        assert "mine" not in two.run("ls ~ /tmp")
        assert "ours" in two.run(f"ls {SHARED}")
        assert two.run("python -c 'import ray; print(ray.__version__)'")


def test_a_host_that_is_cut_off_is_reached_again_when_it_is_joined() -> None:
    hostname = "ssh -q -o StrictHostKeyChecking=no -o ConnectTimeout={} two hostname"
    with hosts("one", "two") as both:
        one, two = both
        assert one.run(hostname.format(60)).strip() == "two"
        both.cut(two)
        assert one.run(hostname.format(2), check=False) == ""
        both.join(two)
        assert one.run(hostname.format(60)).strip() == "two"


def test_a_host_that_is_replaced_has_its_address_and_nothing_else() -> None:
    with hosts("one", "two") as both:
        both["two"].run("touch ~/mine")
        both.replace(both["two"])
        said = both["one"].run("ssh -q -o StrictHostKeyChecking=no two 'hostname; ls'")
        assert said.split() == ["two"]


@pytest.mark.alone  # other tests mount something
def test_nothing_is_left_of_hosts_after_an_error() -> None:
    mounts = Path("/proc/self/mountinfo").read_text()
    seen: list[psutil.Process] = []
    folders: list[Path] = []

    def fail() -> None:
        with hosts("one", "two") as both:
            one, two = both
            one.run("setsid sleep 1234 > /dev/null 2>&1 &")
            assert one.processes("sleep 1234")
            assert not two.processes("sleep 1234")
            seen.extend([*one.processes(), *two.processes()])
            folders.append(both.shared.parent)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert not folders[0].exists()
    assert Path("/proc/self/mountinfo").read_text() == mounts
    assert not any(process.is_running() for process in seen)
