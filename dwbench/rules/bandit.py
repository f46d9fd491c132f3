"""A bandit over clusters: which cluster to draw the next row from, given what its rows have brought so far.

The rules are those of ClusterUCB (arXiv 2506.10288). They are functions of the whole history, so a run that was cut
off goes on from what it had drawn.
"""

import math
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import numpy as np

from dwbench.rules.strata import whole

Rule = Literal["ucb", "ucb1", "thresh_hard", "thresh_normal"]
"""What an arm is worth:

- `ucb`: mean + beta x population standard deviation of its rewards, which is 0 for a single one, as published;
- `ucb1`: mean + beta x sqrt(2 ln t / n), t rewards in all and n of them the arm's (Auer et al. 2002);
- `thresh_hard`: share of its rewards that are at least as high as the top share of all;
- `thresh_normal`: the same by a normal distribution with the mean and the population deviation of its rewards.
"""

Reward = Callable[[np.ndarray], np.ndarray]
"""From positions [m] of rows to their rewards [m]."""


class Policy(NamedTuple):
    """`rule`, with `beta` for `ucb` and `ucb1`, and `top_share` for the two thresholds."""

    rule: Rule
    beta: float
    top_share: float


class Draws(NamedTuple):
    """`rows`: positions in the order of drawing, [t] int64. `rewards`: what each brought, [t] float64."""

    rows: np.ndarray
    rewards: np.ndarray


NO_DRAWS = Draws(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.float64))


def queues(labels: np.ndarray, drawable: np.ndarray, draw: np.ndarray) -> list[np.ndarray]:
    """The rows of every arm in the order in which they are drawn: positions, one array an arm.

    Args:
        labels: arm of each row, [N] integers. drawable: rows that can be drawn, bool [N]. draw: [N] numbers, by which
            an arm's rows are ordered.
    """
    order = np.argsort(draw, kind="stable")
    order = order[drawable[order]]
    return [order[labels[order] == arm] for arm in range(int(labels.max()) + 1)]


def cold_start(queue: Sequence[np.ndarray], share: float) -> np.ndarray:
    """The rows that are drawn before there is anything to decide by, [rows] positions: of every arm that has rows
    floor(share x its rows), and at least one.

    First one row of each arm, then a second one, and so on: wherever it is cut off, no arm has been passed over.
    """
    counts = [max(whole(share, len(rows)), min(1, len(rows))) for rows in queue]
    turns = [rows[turn] for turn in range(max(counts)) for rows, n in zip(queue, counts, strict=True) if turn < n]
    return np.array(turns, dtype=np.int64)


def arm_values(arms: np.ndarray, rewards: np.ndarray, n_arms: int, policy: Policy) -> np.ndarray:
    """What every arm is worth, [n_arms] float64; infinite for one that was never drawn.

    A reward of NaN counts for nothing. The threshold of the top share p of t rewards is the one behind the
    floor(p t) highest, as in the published code. An arm whose rewards are all the same is a certainty for
    `thresh_normal`, 0 or 1; published, it is NaN and wins.

    Args:
        arms: the arm of each draw so far, [t] integers. rewards: [t].
    """
    known = ~np.isnan(rewards)
    arms, rewards = arms[known], rewards[known]
    times = np.bincount(arms, minlength=n_arms)
    n = np.maximum(times, 1)
    mean = np.bincount(arms, rewards, minlength=n_arms) / n
    if policy.rule == "ucb1":
        values = mean + policy.beta * np.sqrt(2 * math.log(max(len(rewards), 1)) / n)
    elif policy.rule == "thresh_hard":
        values = np.bincount(arms, rewards >= _threshold(rewards, policy.top_share), minlength=n_arms) / n
    else:
        deviation = np.sqrt(np.bincount(arms, (rewards - mean[arms]) ** 2, minlength=n_arms) / n)
        if policy.rule == "ucb":
            values = mean + policy.beta * deviation
        else:
            values = _normal_above(_threshold(rewards, policy.top_share), mean, deviation)
    return np.where(times > 0, values, np.inf)


def _threshold(rewards: np.ndarray, top_share: float) -> float:
    """The reward behind the floor(top_share x t) highest; infinite where there is none."""
    if not rewards.size:
        return math.inf
    return float(np.sort(rewards)[::-1][min(whole(top_share, len(rewards)), len(rewards) - 1)])


def _normal_above(threshold: float, mean: np.ndarray, deviation: np.ndarray) -> np.ndarray:
    """Chance of a value above `threshold`, for each mean and deviation."""
    from scipy.special import ndtr

    surely = (mean >= threshold).astype(np.float64)
    spread = deviation > 0
    return np.where(spread, ndtr((mean - threshold) / np.where(spread, deviation, 1.0)), surely)


def best_arm(values: np.ndarray, left: np.ndarray) -> int:
    """The arm with the highest value among those with rows left ([n_arms] counts); of equal ones the first.

    The published code gives an arm without rows the value 0, which wins where all others are negative; it then fails.
    Raises ValueError where no arm has rows left.
    """
    if not (left > 0).any():
        raise ValueError("no arm has a row left")
    return int(np.argmax(np.where(left > 0, values, -np.inf)))


def draw_on(
    queue: Sequence[np.ndarray], first: np.ndarray, policy: Policy, reward: Reward, so_far: Draws, total: int
) -> Draws:
    """Go on from `so_far` until `total` rows are drawn, or all: the rows of `first`, then the best arm's next row, one
    at a time.

    Args:
        queue: the rows of every arm in the order of drawing (`queues`).
        first: the rows to begin with (`cold_start`); they are asked for at once.
        policy: by what an arm is chosen.
        reward: what rows bring; asked for each row once.
        so_far: an earlier result for the same `queue`, `first`, `policy` and `reward`; `NO_DRAWS` at the start.
        total: rows to be drawn in all, those of `so_far` among them.
    """
    total = min(total, sum(map(len, queue)))
    arm_of = {int(row): arm for arm, rows in enumerate(queue) for row in rows}
    rows, rewards = so_far
    begin = first[len(rows) : total]
    if begin.size:
        rows, rewards = np.concatenate([rows, begin]), np.concatenate([rewards, reward(begin)])
    arms = np.array([arm_of[int(row)] for row in rows], dtype=np.int64)
    left = np.array([len(members) for members in queue]) - np.bincount(arms, minlength=len(queue))
    while len(rows) < total:
        arm = best_arm(arm_values(arms, rewards, len(queue), policy), left)
        row = queue[arm][len(queue[arm]) - left[arm]]
        rows, rewards = np.append(rows, row), np.append(rewards, reward(row[None]))
        arms = np.append(arms, arm)
        left[arm] -= 1
    return Draws(rows, rewards)
