"""What exact pruning saves Nuggets, on simulated wins: `python experiments/speed/nuggets_pruning.py`.

Takes seconds and no model. Row i wins task j with probability sigmoid(a_i + b_j), a and b normal. The cost of one
comparison is 1, and reading a row costs 1 more in every block of tasks; shown is the share of the cost without pruning:
for one budget, and for the three of a sweep together, where without pruning all share one computation and with it only
the first block.
"""

import numpy as np

from dwbench.selectors.nuggets import compare_all, halving_blocks

N, M = 1000, 100
BUDGETS = (10, 50, 100)

generator = np.random.default_rng(0)
blocks = halving_blocks(M)
everyone = np.ones(N, dtype=bool)
first = N * (1 + blocks[0].size)
unpruned = N * (1 + M)


def cost_of(wins: np.ndarray, k: int) -> int:
    """Comparisons made for a choice of k rows, and reads of a row."""
    found = compare_all(lambda rows, tasks: wins[np.ix_(rows, tasks)], wins != 0, everyone, blocks, k)
    known = ~np.isnan(found)
    return int(known.sum()) + sum(int(known[:, block[0]].sum()) for block in blocks)


print("sd of a, of b | sd of the score | 1 %, 5 %, 10 % alone | all three")
for spread, difficulty in ((0.3, 2.0), (0.7, 1.5), (1.0, 1.0), (1.5, 1.0), (3.0, 1.0)):
    logit = generator.normal(0, spread, (N, 1)) + generator.normal(0, difficulty, M)
    wins = np.where(generator.random((N, M)) < 1 / (1 + np.exp(-logit)), 1.0, -1.0)
    cost = [cost_of(wins, k) for k in BUDGETS]
    alone = ", ".join(f"{one / unpruned:.2f}" for one in cost)
    together = (sum(cost) - (len(BUDGETS) - 1) * first) / unpruned
    print(f"{spread}, {difficulty} | {(wins > 0).mean(axis=1).std():.2f} | {alone} | {together:.2f}")
