"""The bandit against published decisions and a published run, by hand, and what holds for every run of it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dwbench.rules.bandit import (
    NO_DRAWS,
    Draws,
    Policy,
    Rule,
    arm_values,
    best_arm,
    cold_start,
    draw_on,
    queues,
)

UCB = Policy("ucb", 1.0, 0.25)

RULES: dict[str, Rule] = {
    "mean plus beta times population standard deviation": "ucb",
    "share of rewards at or above the global threshold": "thresh_hard",
    "normal tail probability above the global threshold": "thresh_normal",
}


def case(shared: Path, rule: str, name: str) -> dict[str, Any]:
    path = shared / "golden" / "rules" / rule / f"{name}.json"
    if not path.is_file():
        pytest.skip(f"no golden vectors: {path}")
    data: dict[str, Any] = json.loads(path.read_text())
    return data


def values(rewards: list[list[float]], policy: Policy) -> np.ndarray:
    """Of arms with these rewards."""
    arms = np.repeat(np.arange(len(rewards)), [len(own) for own in rewards])
    return arm_values(arms, np.array([one for own in rewards for one in own]), len(rewards), policy)


def left(rewards: list[list[float]], sizes: list[int]) -> np.ndarray:
    return np.array(sizes) - [len(own) for own in rewards]


def test_published_decisions(shared: Path) -> None:
    data = case(shared, "clusterucb_decision", "case_a")
    decisions = data["expected"]["decisions"]["value"]
    assert {one["rule"] for one in decisions} == set(RULES)
    for one in decisions:
        policy = Policy(RULES[one["rule"]], one["beta"] or 0.0, one["top_share"] or 0.0)
        found = values(one["rewards_so_far"], policy)
        for arm, value in (one["arm_values"] or {}).items():
            assert found[int(arm)] == pytest.approx(value, rel=1e-9), one["name"]
        assert best_arm(found, left(one["rewards_so_far"], one["arm_sizes"])) == one["chosen_arm"], one["name"]


def test_an_exhausted_arm_never_wins(shared: Path) -> None:
    data = case(shared, "clusterucb_decision", "case_bug_exhausted_arm")
    rewards, sizes = (data["inputs"][name]["value"] for name in ("rewards_so_far", "arm_sizes"))
    assert best_arm(values(rewards, UCB), left(rewards, sizes)) == data["expected"]["chosen_arm_corrected"]["value"]


def test_published_run(shared: Path) -> None:
    data = case(shared, "clusterucb_run", "case_a")
    given = {name: np.array(entry["value"]) for name, entry in data["inputs"].items() if name != "draw_order"}
    queue = [np.array(rows) for rows in data["inputs"]["draw_order"]["value"]]
    expected = {name: entry["value"] for name, entry in data["expected"].items()}
    parameters = data["parameters"]
    labels, rewards = given["arm_of_row"], given["reward_of_row"]
    first = cold_start(queue, parameters["cold_start_fraction"])
    assert np.bincount(labels[first]).tolist() == expected["cold_start_draws"]
    total = len(first) + parameters["n_loop_draws"]
    found = draw_on(queue, first, UCB, lambda rows: rewards[rows], NO_DRAWS, total)
    assert labels[found.rows[len(first) :]].tolist() == expected["arm_sequence"]
    best = found.rows[np.argsort(-found.rewards, kind="stable")[: parameters["n_final"]]]
    assert best.tolist() == expected["final_rows"]


def test_by_hand() -> None:
    np.testing.assert_allclose(values([[0.1, 0.3], [0.25]], UCB), [0.3, 0.25])
    ucb1 = values([[0.1, 0.3], [0.25]], Policy("ucb1", 1.0, 0.0))
    np.testing.assert_allclose(ucb1, [0.2 + np.sqrt(np.log(3)), 0.25 + np.sqrt(2 * np.log(3))])
    # Of 4 rewards one is in the top quarter; the threshold is the one behind it, 0.3.
    rewards = [[0.1, 0.3], [0.4, 0.2]]
    np.testing.assert_allclose(values(rewards, Policy("thresh_hard", 0.0, 0.25)), [0.5, 0.5])
    # One deviation above the mean of the first, at the mean of the second.
    np.testing.assert_allclose(values(rewards, Policy("thresh_normal", 0.0, 0.25)), [0.15865525, 0.5])


@pytest.mark.parametrize("rule", ["ucb", "ucb1", "thresh_hard", "thresh_normal"])
def test_arms_at_the_edge(rule: Rule) -> None:
    policy = Policy(rule, 1.0, 0.25)
    assert np.isinf(arm_values(np.empty(0, dtype=np.int64), np.empty(0), 3, policy)).all()
    found = values([[0.5], [], [float("nan")], [-0.5, -0.5]], policy)
    assert np.isinf(found[[1, 2]]).all()
    assert np.isfinite(found[[0, 3]]).all()
    assert found[0] > found[3]
    assert best_arm(found, np.array([1, 0, 0, 1])) == 0
    assert best_arm(np.zeros(3), np.array([0, 2, 2])) == 1


def test_one_reward_or_equal_ones_are_a_certainty() -> None:
    found = values([[0.9], [0.1], [0.5, 0.5]], Policy("thresh_normal", 0.0, 0.25))
    # The top quarter of 4 is one reward, and the threshold the next one, 0.5.
    np.testing.assert_array_equal(found, [1, 0, 1])


def test_no_row_left() -> None:
    with pytest.raises(ValueError, match="no arm has a row left"):
        best_arm(np.array([1.0, 2.0]), np.array([0, 0]))


def test_the_queues_hold_what_can_be_drawn_in_the_order_of_the_draw() -> None:
    labels = np.array([1, 0, 1, 0, 3])
    found = queues(labels, np.array([True, True, True, False, True]), np.array([0.9, 0.5, 0.1, 0.2, 0.3]))
    assert [rows.tolist() for rows in found] == [[1], [2, 0], [], [4]]


def test_the_cold_start_goes_round() -> None:
    queue = [np.arange(0, 4), np.arange(4, 5), np.empty(0, dtype=np.int64), np.arange(5, 11)]
    assert cold_start(queue, 0.5).tolist() == [0, 4, 5, 1, 6, 7]
    assert cold_start(queue, 0.0).tolist() == [0, 4, 5]
    assert cold_start([np.empty(0, dtype=np.int64)], 0.5).tolist() == []


def pool(seed: int, n: int = 60, arms: int = 5) -> tuple[list[np.ndarray], np.ndarray]:
    """Queues over n rows, and rewards that are alike inside an arm."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, arms, n)
    return queues(labels, np.ones(n, dtype=bool), rng.random(n)), rng.normal(size=arms)[labels] / 2 + rng.random(n) / 4


@pytest.mark.parametrize("rule", ["ucb", "ucb1", "thresh_hard", "thresh_normal"])
@pytest.mark.parametrize("seed", range(5))
def test_exactly_so_many_rows_each_once_and_asked_for_once(rule: Rule, seed: int) -> None:
    queue, rewards = pool(seed)
    asked: list[int] = []

    def reward(rows: np.ndarray) -> np.ndarray:
        asked.extend(rows.tolist())
        return rewards[rows]

    for total in (0, 1, 3, 25, 60, 99):
        asked.clear()
        found = draw_on(queue, cold_start(queue, 0.1), Policy(rule, 1.0, 0.25), reward, NO_DRAWS, total)
        assert len(found.rows) == len(set(found.rows.tolist())) == min(total, 60)
        assert asked == found.rows.tolist()
        np.testing.assert_array_equal(found.rewards, rewards[found.rows])


@pytest.mark.parametrize("stop", [0, 2, 5, 30])
def test_a_run_goes_on_where_it_was_cut_off(stop: int) -> None:
    queue, rewards = pool(0)

    def run(so_far: Draws, total: int) -> Draws:
        return draw_on(queue, cold_start(queue, 0.1), UCB, lambda rows: rewards[rows], so_far, total)

    at_once, again = run(NO_DRAWS, 40), run(run(NO_DRAWS, stop), 40)
    assert at_once.rows.tolist() == again.rows.tolist()
    np.testing.assert_array_equal(at_once.rewards, again.rewards)


def test_rows_of_good_arms_are_drawn_first() -> None:
    labels = np.repeat([0, 1, 2], 30)
    rewards = np.array([-0.6, -0.2, -0.4])[labels] + np.random.default_rng(0).normal(scale=0.01, size=90)
    queue = queues(labels, np.ones(90, dtype=bool), np.random.default_rng(1).random(90))
    found = draw_on(queue, cold_start(queue, 0.1), UCB, lambda rows: rewards[rows], NO_DRAWS, 45)
    # 3 of each, then all that is left of the best arm, though all rewards are negative, then of the second.
    assert labels[found.rows[9:]].tolist() == [1] * 27 + [2] * 9
