"""Joining a Ray cluster as a driver, and why that may fail."""

from __future__ import annotations

import logging
import os
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager

from search import node_check
from search.cluster import Cluster
from search.local_ray import find_node_ids, maybe_enable_token_auth_if_token_available, ray
from search.node_fit import one_line, shared_word
from search.settings import Settings, UsageError

CONNECT_SECONDS = 5.0
_REFUSED = "InvalidAuthToken"
"""What Ray prints, again and again, where its token is not the cluster's."""


@contextmanager
def joined(settings: Settings, say: Callable[[str], None]) -> Iterator[Cluster]:
    """The cluster at `--address`, until the end of the search; no actor and no placement group stays there.

    `say` is told what happens to its nodes. Raises UsageError where there is none, where this driver is not
    let in, and where no trial could ever be placed.
    """
    address = settings.address
    if address != "auto":
        _check_listens(address)
    if not find_node_ids():  # Ray itself would look for a minute
        raise UsageError(f"--address {address} cannot be joined: {_NO_NODE}")
    ray.cloudpickle.register_pickle_by_value(node_check)
    _join(address)
    try:
        with shared_word(settings.storage) as word:
            cluster = Cluster(settings, word, say)
            try:
                cluster.wait()
                yield cluster
            finally:
                cluster.close()
    finally:
        ray.shutdown()


def _wait(done: Future[None], unless: Callable[[], bool]) -> bool:
    """Until `done`, or until `unless`; returns whether it was that."""
    while not done.done():
        if unless():
            return True
        time.sleep(0.05)
    return False


def _check_listens(address: str) -> None:
    """Refuse an address at which nobody listens: Ray itself would try for half a minute."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
    except OSError as error:
        raise UsageError(
            f"--address {address} cannot be joined: nothing answers there ({one_line(error)}). Give host and "
            "port of the cluster's head, or auto on one of its nodes"
        ) from error


def _join(address: str) -> None:
    """Connect, in a thread: a wrong token shows at once in what Ray prints, long before it gives up."""
    done: Future[None] = Future()

    def attempt() -> None:
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
            done.set_result(None)
        except BaseException as error:
            done.set_exception(error)

    with _printed() as printed:
        threading.Thread(target=attempt, name="join", daemon=True).start()
        asked = _wait(done, lambda: _REFUSED in printed())
        # with a token where none is asked for, the cluster's calls to this driver would be refused
        if asked and maybe_enable_token_auth_if_token_available(warn_if_disabled=False):
            before = printed().count(_REFUSED)
            _wait(done, lambda: printed().count(_REFUSED) > before + 1)
    if not done.done():
        raise UsageError(f"--address {address} cannot be joined: {_LET_IN}")
    error = done.exception()
    if error is not None:
        raise UsageError(f"--address {address} cannot be joined: {_why(address, error)}") from error


@contextmanager
def _printed() -> Iterator[Callable[[], str]]:
    """Keeps what is written to standard error, by Ray's own code too; yields what reads it so far."""
    sys.stderr.flush()
    with tempfile.TemporaryFile() as file:
        before = os.dup(2)
        os.dup2(file.fileno(), 2)
        try:
            yield lambda: os.pread(file.fileno(), 100_000, 0).decode(errors="replace")
        finally:
            sys.stderr.flush()
            os.dup2(before, 2)
            os.close(before)


def _why(address: str, error: BaseException) -> str:
    text = one_line(error)
    if isinstance(error, ray.exceptions.AuthenticationError) or "uthenticat" in text:
        return _LET_IN
    if "ersion mismatch" in text:
        return f"other versions run there: {text}"
    if "ould not find" in text and "any running Ray" in text:
        return _NO_NODE
    if isinstance(error, ConnectionError) and address != "auto":
        # something listens, and does not talk to us
        return f"what listens there is no Ray, or {_LET_IN}"
    return text


_NO_NODE = (
    "this machine is part of no Ray cluster. Start one with `ray up cluster.yaml` and run this there "
    "with `ray exec`, make this machine a node with `ray start --address host:6379 --num-cpus 0`, or leave "
    "--address out to search on this machine"
)
_LET_IN = (
    "it asks for another token: export RAY_AUTH_MODE=token, with the token of the cluster's head in "
    "~/.ray/auth_token or RAY_AUTH_TOKEN"
)
