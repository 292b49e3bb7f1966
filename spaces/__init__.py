"""What to search: `SPACES` by name, and `load_space` for these and for a user's own module.

A space is a module with

    def suggest(trial: optuna.Trial, task: Task) -> TrialConfig
    BASELINES: dict[str, dict[str, Any]] = {}          (optional)
    ARCHITECTURES: tuple[str, ...] = ()                (optional)

where a baseline maps each parameter that `suggest` asks for to its value, and ARCHITECTURES names the
pretrained networks in the space (see `trainables.models.pretrained`), for which the driver gets weights.
"""

from spaces.check import check_space, misfits
from spaces.fixed import fixed_trial
from spaces.load import SPACES, load_networks, load_space
from spaces.space import Space, SpaceError

__all__ = [
    "SPACES",
    "Space",
    "SpaceError",
    "check_space",
    "fixed_trial",
    "load_networks",
    "load_space",
    "misfits",
]
