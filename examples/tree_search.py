"""Monte-Carlo tree search for a mapping that needs nothing of mapgym but an environment and its saved states.

python examples/tree_search.py paper/resnet_conv4 accel_b --samples 2000
"""

import argparse
import math

import gymnasium as gym
import numpy as np

from mapgym import Budget, Evaluator, MapSpace, SpecificationError, catalog


class Node:
    """A saved state of the environment, and what became of the samples that went through it."""

    def __init__(self, env, over=False):
        # What is left of the episode draws no random numbers, and without them a state takes half a microsecond.
        self.state = env.get_state(random=False)
        self.untried = [] if over else np.flatnonzero(env.action_masks()).tolist()
        self.children, self.visits, self.total, self.best = [], 0, 0.0, -math.inf

    def worth(self, root):
        """Between the mean and the best reward below, on a scale where 0 is the mean of all samples, 1 the best."""
        mean, low = self.total / self.visits, root.total / root.visits
        return (0.2 * mean + 0.8 * self.best - low) / max(root.best - low, 1e-9)


def sample(env, root, exploration, rng):
    """Builds one mapping: down the tree, one step out of it, to the end at random, and back up with the reward."""
    path = [root]
    while not path[-1].untried:
        log, children = math.log(path[-1].visits), path[-1].children
        path.append(max(children, key=lambda c: c.worth(root) + exploration * math.sqrt(log / c.visits)))
    env.set_state(path[-1].state)
    _, reward, over, _, _ = env.step(path[-1].untried.pop(rng.integers(len(path[-1].untried))))
    path.append(Node(env, over))
    path[-2].children.append(path[-1])
    while not over:
        _, reward, over, _, _ = env.step(int(rng.choice(np.flatnonzero(env.action_masks()))))
    for node in path:
        node.visits, node.total, node.best = node.visits + 1, node.total + reward, max(node.best, reward)
    while len(path) > 1 and not path[-1].untried and not path[-1].children:
        done = path.pop()  # Every mapping below it is priced.
        path[-1].children.remove(done)


def search(evaluator, exploration=1.0, seed=0):
    """Spends the budget of an evaluator, which prices every episode that ends, and keeps the best mapping."""
    env = gym.make("MapSpace-v0", evaluator=evaluator).unwrapped
    env.reset(seed=seed)
    root, rng = Node(env), np.random.default_rng(seed)
    while not evaluator.exhausted and (root.untried or root.children):
        sample(env, root, exploration, rng)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("workload")
    parser.add_argument("accelerator")
    parser.add_argument("--samples", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    try:
        space = MapSpace(catalog.workload(arguments.workload), catalog.accelerator(arguments.accelerator))
        evaluator = Evaluator(space, "edp", Budget(samples=arguments.samples))
    except SpecificationError as error:
        parser.error(str(error))
    search(evaluator, seed=arguments.seed)
    print(evaluator.best_mapping.to_text())
    print(f"{evaluator.samples:,} mappings, EDP {evaluator.best_value:.4g}, {evaluator.ratio:.2f} x the lower bound")
