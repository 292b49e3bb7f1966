"""Ray as a search needs it: its environment, a Ray of our own on loopback. The only place that starts Ray."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from search.auth_token import keep_token_private
from search.object_store import store_bytes
from search.slots import Slots

# read by Ray when it is imported or started
_ENVIRONMENT = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",  # workers use this environment, not a new one made by uv
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # on Linux too: Ray's own address is the loopback one
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",  # a trial without a GPU sees none
    "RAY_enable_worker_prestart": "0",  # later ones: one a core, and trials would not wait for them
    "RAY_prestart_worker_first_driver": "1",  # the first ones: they import what follows before a trial is due
    "RAY_preload_python_modules": "torch,ray.tune,tensorboardX",
    "RAY_OBJECT_STORE_ALLOW_SLOW_STORAGE": "1",  # a file, where a container has little shared memory
    "RAY_TQDM": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000000",  # Tune's own snapshot is never read
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_WARN_INSUFFICENT_RESOURCE_THRESHOLD_S": "1000000000",
    "TUNE_WARN_THRESHOLD_S": "30",
}
LONGEST_BASE = 30
"""Characters of a temporary folder in which Ray's sockets still have short enough paths."""
for _name, _value in _ENVIRONMENT.items():
    os.environ.setdefault(_name, _value)

import ray
from ray import tune
from ray._common.utils import env_bool
from ray._private import ray_constants
from ray._private.authentication.authentication_token_setup import maybe_enable_token_auth_if_token_available
from ray._private.services import find_node_ids
from ray._private.state import state as cluster_state
from ray.air.execution._internal.actor_manager import RayActorManager
from ray.tune.execution import class_cache
from ray.tune.experiment import Trial as RayTrial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher
from ray.util.placement_group import placement_group, remove_placement_group
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

__all__ = [
    "FIFOScheduler",
    "NodeAffinitySchedulingStrategy",
    "RayTrial",
    "Searcher",
    "TrialScheduler",
    "cluster_state",
    "find_node_ids",
    "local_ray",
    "maybe_enable_token_auth_if_token_available",
    "placement_group",
    "ray",
    "remove_placement_group",
    "tune",
]


# Ray reads these when it is imported, which a user's script may have done first
for _name, _variable in (
    ("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "RAY_ENABLE_UV_RUN_RUNTIME_ENV"),
    ("ENABLE_RAY_CLUSTER", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"),
):
    setattr(ray_constants, _name, env_bool(_variable, default=False))

# Tune would give its workers an environment of their own, for a library that is not used here and for copies
# of cloud credentials: then none of those that Ray started beforehand would do
class_cache.DEFAULT_ENV_VARS.clear()
class_cache.ENV_VARS_TO_PROPAGATE.clear()


def _as_lost_worker(handle: Callable[..., None]) -> Callable[..., None]:
    """Tune knows of actors that died and of exceptions in tasks; anything else, such as what Ray's memory
    monitor leaves of a worker, would end its loop, and with it the search.
    """

    def handled(self: RayActorManager, *, exception: Exception, **about: Any) -> None:
        known = (ray.exceptions.RayActorError, ray.exceptions.RayTaskError)
        if isinstance(exception, ray.exceptions.RayError) and not isinstance(exception, known):
            exception = ray.exceptions.RayActorError(error_msg=str(exception))
        handle(self, exception=exception, **about)

    return handled


for _name in ("_actor_task_failed", "_actor_start_failed"):
    setattr(RayActorManager, _name, _as_lost_worker(getattr(RayActorManager, _name)))


@contextmanager
def local_ray(slots: Slots, *, dashboard: bool = False) -> Iterator[str]:
    """A Ray of our own on loopback, gone at the end with all it wrote; one that runs already is used.

    Yields where its dashboard is, host:port; empty where there is none.

    A worker for each slot is started too. Ray ties its processes to the thread that calls this: they end
    with it, whatever ends it.
    """
    if ray.is_initialized():
        yield ""
        return
    # paths of sockets are limited to about 100 characters
    base = tempfile.gettempdir()
    if len(base) >= LONGEST_BASE:
        base = "/tmp"  # noqa: S108  mkdtemp makes a folder of its own there, for this user alone
    folder = tempfile.mkdtemp(prefix="search-", dir=base)
    keep_token_private()
    try:
        context = ray.init(
            address="local",
            num_cpus=slots.count * slots.cpus,
            num_gpus=None if slots.gpus else 0,
            object_store_memory=store_bytes(),
            include_dashboard=dashboard,
            log_to_driver=False,
            logging_level=logging.ERROR,
            _node_ip_address="127.0.0.1",
            _temp_dir=folder,
            _system_config={"num_workers_soft_limit": slots.count},
        )
        yield context.dashboard_url or ""
    finally:
        ray.shutdown()
        shutil.rmtree(folder, ignore_errors=True)
