"""What a lost node costs a trial: nothing, unless it may be what ends them."""

from __future__ import annotations

from test_controller import make, row

from search.controller import LOST_NODES


def test_lost_nodes_use_up_nothing_while_epochs_come_between() -> None:
    controller = make("none", trials=1, max_epochs=2 * LOST_NODES)
    for epoch in range(1, 2 * LOST_NODES):
        assert controller.next_work() is not None
        controller.report(0, row(epoch), 0.5)
        controller.ended(0, lost="its node has died", with_its_node=True)
    assert controller.live[0].lost == 0
    assert controller.live[0].state == "interrupted"


def test_a_trial_under_which_every_node_dies_without_an_epoch_fails() -> None:
    controller = make("none", trials=1)
    for _ in range(LOST_NODES):
        assert controller.next_work() is not None
        controller.ended(0, lost="its node has died", with_its_node=True)
    assert controller.outcomes["failed"] == 1
    assert "node has died" in controller.record.trial(0).user_attrs["error"]


def test_demand_is_what_runs_what_is_cut_off_and_what_is_still_to_be_asked() -> None:
    controller = make("promote", trials=4)
    assert controller.demand == 4
    controller.next_work()
    controller.next_work()
    controller.ended(0, lost="its node has died", with_its_node=True)
    assert controller.demand == 4
    controller.report(1, row(1), 0.5)
    assert controller.demand == 3, "one waits at its rung"
    assert make(trials=None).demand is None
