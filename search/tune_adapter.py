"""What Tune asks for, a Searcher, a TrialScheduler and a Stopper, each passing on to the engine at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from search.local_ray import FIFOScheduler, RayTrial, Searcher, TrialScheduler, tune
from trainables.stint import Stint

if TYPE_CHECKING:
    from search.engine import Engine


class _InMemory:
    """Tune pickles and copies what it is given, for a restore that is never made: this stays where it is."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (object, ())

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return self


class WorkSource(_InMemory, Searcher):
    """Hands Tune the controller's work."""

    def __init__(self, engine: Engine) -> None:
        super().__init__()
        self.engine = engine

    def suggest(self, trial_id: str) -> Any:
        """The next stint; None when every slot has one."""
        with self.engine.guarded():
            stint = self.engine.next_stint(trial_id)
            if isinstance(stint, Stint):
                return {"stint": stint}
            return Searcher.FINISHED if stint == "finished" else None
        return Searcher.FINISHED

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Nothing: the scheduler has passed it on."""

    def save_to_dir(self, checkpoint_dir: str, session_str: str = "default") -> None:
        """Nothing: the study is the record."""


class Decisions(_InMemory, FIFOScheduler):
    """Passes results to the controller and its answers to Tune."""

    def __init__(self, engine: Engine) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Ray has no annotations there
        self.engine = engine

    def on_trial_add(self, tune_controller: Any, trial: RayTrial) -> None:
        """Note which Ray trial carries a stint."""
        self.engine.ray_trials[trial.trial_id] = trial

    def on_trial_result(self, tune_controller: Any, trial: RayTrial, result: dict[str, Any]) -> str:
        """Whether the stint goes on."""
        with self.engine.guarded():
            if self.engine.result(trial.trial_id, result):
                return str(TrialScheduler.CONTINUE)
        return str(TrialScheduler.STOP)

    def on_trial_error(self, tune_controller: Any, trial: RayTrial) -> None:
        """A stint ended with an exception, or with its worker."""
        with self.engine.guarded():
            self.engine.lost(trial)

    def choose_trial_to_run(self, tune_controller: Any) -> None:
        """Called in every turn of Tune's loop: the engine does its own there."""
        # Tune starts pending trials in order by itself; scanning all trials here would grow with the search
        with self.engine.guarded():
            self.engine.step()


class EngineStop(_InMemory, tune.Stopper):
    """Ends Tune's loop where the engine says so."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Never: `Decisions` ends single stints."""
        return False

    def stop_all(self) -> bool:
        """Whether to end now, whatever trains."""
        if not self.engine.should_stop():
            return False
        self.engine.kill_workers()
        return True
