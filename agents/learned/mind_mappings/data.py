"""What the surrogate of Mind Mappings learns from: random problems, random mappings of them, and their costs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mapgym.agents.learned.mind_mappings.encoding import Encoding, vector_width
from mapgym.cost import CostModel, lower_bound
from mapgym.mapping import MappingBatch
from mapgym.mapspace import MapSpace
from mapgym.spec.accelerator import Accelerator
from mapgym.spec.workload import Workload, conv2d, depthwise_conv2d, matmul

AXES = ("tile", "order", "parallelism")
_BYPASS_SHARE = 0.3
# A tensor that bypasses a level costs nothing there; the logarithm needs something.
_LEAST_RATIO = 0.1
_ROUNDS = 4

_BATCHES = (1, 2, 4, 8, 16, 32)
_CHANNELS = (3, 16, 24, *range(32, 481, 32), 512, 768, 1024, 2048)
_FILTERS = (1, 3, 3, 5, 7)
_USUAL_SIDES = (7, 8, 13, 14, 16, 27, 28, 32, 55, 56, 64, 112)
_WIDTHS = (64, 128, 196, 197, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096)
_HEADS = (1, 2, 8, 12, 16, 32, 64, 128, 192, 256)


def random_problem(rng: np.random.Generator) -> Workload:
    """A convolution (three of five), a depthwise one, or a matrix product with shared or with separate weights."""
    kind = rng.random()
    if kind < 0.4:
        rows, shared = _one_of(rng, (1, *_WIDTHS)), kind < 0.2
        heads = _one_of(rng, _BATCHES if shared else _HEADS)
        return matmul(
            "random", B=heads, M=rows, K=_one_of(rng, _WIDTHS), N=_one_of(rng, _WIDTHS), shared_weights=shared
        )
    # The original draws sides from 7 to 223; half of ours are sizes that networks have, which have more divisors.
    side = int(rng.integers(7, 224)) if rng.random() < 0.5 else _one_of(rng, _USUAL_SIDES)
    filter_side = _one_of(rng, _FILTERS)
    window = {"P": side, "Q": side, "R": filter_side, "S": filter_side, "stride": 1 + int(rng.random() < 0.2)}
    if kind < 0.5:
        return depthwise_conv2d("random", N=_one_of(rng, _BATCHES), C=_one_of(rng, _CHANNELS), **window)
    channels = {"C": _one_of(rng, _CHANNELS), "M": _one_of(rng, _CHANNELS[1:])}
    return conv2d("random", N=_one_of(rng, _BATCHES), **channels, **window)


def make_chunk(
    accelerator: Accelerator, seed: tuple[int, ...], problems: int, mappings: int, improved: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Vectors and targets of random mappings, shuffled; the same for the same arguments.

    Args:
        accelerator: on which they run.
        seed: of everything random.
        problems: random problems.
        mappings: mappings of each.
        improved: share of the mappings that are random edits of the best ones before them, instead of drawn from the
            whole map space.

    Returns:
        float32[n, width] vectors, float32[n, targets] natural logarithms of costs over their lower bounds.
    """
    rng = np.random.default_rng(seed)
    levels = len(accelerator.levels)
    vectors = np.empty((problems * mappings, vector_width(levels)), np.float32)
    targets = np.empty((problems * mappings, 3 * levels + 3), np.float32)
    places = rng.permutation(problems * mappings).reshape(problems, mappings)
    for rows in places:
        workload = random_problem(rng)
        axes = (*AXES, "bypass") if rng.random() < _BYPASS_SHARE else AXES
        batch = random_mappings(MapSpace(workload, accelerator, axes), rng, mappings, improved)
        encoding = Encoding(workload, levels)
        vectors[rows], targets[rows] = encoding.encode(batch), cost_targets(encoding, accelerator, batch)
    return vectors, targets


def random_mappings(space: MapSpace, rng: np.random.Generator, n: int, improved: float) -> MappingBatch:
    """Legal mappings: random ones, and random edits of the best of them, in a few rounds."""
    edited = round(improved * n)
    batch = space.sample(rng, n - edited)
    model = CostModel(space.workload, space.accelerator)
    for made in np.diff(np.linspace(0, edited, _ROUNDS + 1).astype(int)):
        values = model.evaluate(batch).edp
        best = np.argsort(values, kind="stable")[: max(1, len(batch) // 8)]
        batch = MappingBatch.concatenate([batch, space.random_neighbor(rng, batch[rng.choice(best, made)])])
    return batch


def cost_targets(encoding: Encoding, accelerator: Accelerator, batch: MappingBatch) -> NDArray[np.float32]:
    """float32[n, targets]: ln of the energy per level and tensor, 1 / utilisation, energy and cycles over their bounds.

    The bound of a level and tensor is one access to each word of the tensor, as in the original; those of energy and
    latency are :func:`mapgym.cost.lower_bound`'s.
    """
    workload = encoding.workload
    costs = CostModel(workload, accelerator).evaluate(batch, detail=True)
    assert costs.detail is not None
    bound = lower_bound(workload, accelerator)
    words = np.array([workload.tensor_size(workload.tensors[t].name) for t in encoding.tensor_of])
    reading = [energies["read"] for energies in accelerator.action_energies]
    per_word = np.array(reading) / [level.block_size_words for level in accelerator.levels]
    energies = costs.detail.energy_pj[:, :, encoding.tensor_of] / np.maximum(per_word[:, None] * words, 1e-9)
    ratios = np.column_stack(
        [
            np.maximum(energies.reshape(len(batch), -1), _LEAST_RATIO),
            1.0 / costs.utilization,
            costs.energy_pj / bound.energy_pj,
            costs.latency_cycles / bound.latency_cycles,
        ]
    )
    return np.log(ratios).astype(np.float32)


def _one_of(rng: np.random.Generator, choices: tuple[int, ...]) -> int:
    return choices[int(rng.integers(len(choices)))]
