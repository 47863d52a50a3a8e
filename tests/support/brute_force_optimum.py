"""The optimum of a tiny map space by pricing every mapping in it, and random spaces tiny enough for that."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mapgym.cost import CostModel
from mapgym.errors import SpecificationError
from mapgym.mapspace import MapSpace
from mapgym.mapspace.entries import AXES
from mapgym.spec.accelerator import Accelerator
from mapgym.spec.actions import ACCESSES
from mapgym.spec.constraints import Constraints
from mapgym.spec.levels import Mac, StorageLevel
from mapgym.spec.rules import DEFAULT_RULES
from mapgym.spec.workload import Workload, conv2d, depthwise_conv2d, matmul

MAX_CODES = 150_000
BATCH = 50_000


def brute_force_value(space: MapSpace, objective: str) -> float:
    """The least objective over all mappings of the space; inf if none is legal."""
    model = CostModel(space.workload, space.accelerator)
    sizes = tuple(map(int, space.nvec))
    total = int(np.prod(sizes, dtype=object)) if sizes else 1
    best = np.inf
    for start in range(0, total, BATCH):
        numbers = np.arange(start, min(start + BATCH, total))
        codes = np.stack(np.unravel_index(numbers, sizes), axis=1) if sizes else np.zeros((1, 0), np.int64)
        batch = space.decode(codes)
        values = model.evaluate(batch).objective(objective)
        values[~space.contains(batch)] = np.inf
        best = min(best, float(values.min()))
    return best


def random_space(rng: np.random.Generator, peer_links: bool = False, rules: str = DEFAULT_RULES) -> MapSpace:
    """A random space of at most ``MAX_CODES`` codes: stride, dilation, lanes, meshes, tight capacities, bypass."""
    while True:
        workload = random_workload(rng)
        accelerator = replace(random_accelerator(rng, peer_links), rules=rules)
        axes = ("tile", "order", "parallelism") + (("bypass",) if rng.random() < 0.5 else ())
        constraints = {}
        if not peer_links and rng.random() < 0.8:
            # Without links the order at the innermost level does not count.
            constraints["orders"] = {"Registers": []}
        if rng.random() < 0.1:
            constraints["parallel_dims"] = tuple(rng.choice(workload.dims, 2, replace=False).tolist())
        if rng.random() < 0.1 and accelerator.level_names[1] == "Buffer":
            constraints["orders"] = {"Buffer": rng.permutation(workload.dims).tolist()}
        space = MapSpace(workload, accelerator, axes, Constraints(**constraints))
        if np.prod(space.nvec.astype(float)) <= MAX_CODES:
            return replace_accelerator(space, with_action_energies(rng, accelerator)) if rng.random() < 0.5 else space


def constrained_space(rng: np.random.Generator, whole: MapSpace, levels: int) -> MapSpace | None:
    """The space with some axes as a random mapping has them, and fixed factors at one of its first levels.

    None if there is no mapping, or the space is too large to price every one.
    """
    workload, accelerator = whole.workload, whole.accelerator
    try:
        base = whole.sample(rng, 1)[0]
    except SpecificationError:
        return None
    axes = [axis for axis in AXES if rng.random() < 0.5] or ["order"]
    s, d = int(rng.integers(levels)), int(rng.integers(len(workload.dims)))
    fixed = {"temporal": int(base.temporal[s, d]), "spatial": int(base.spatial[s, d])}
    factors = {accelerator.level_names[s]: {workload.dims[d]: fixed}}
    try:
        space = MapSpace(workload, accelerator, axes, {"factors": factors}, base)
    except SpecificationError:
        return None
    return space if np.prod(space.nvec.astype(float)) <= MAX_CODES else None


def replace_accelerator(space: MapSpace, accelerator: Accelerator) -> MapSpace:
    """The same space on other hardware."""
    return MapSpace(space.workload, accelerator, space.axes, space.constraints)


def with_action_energies(rng: np.random.Generator, accelerator: Accelerator) -> Accelerator:
    """The accelerator with an energy for each action, addresses and leakage, and with clusters of registers."""
    levels = list(accelerator.levels)
    for s, level in enumerate(levels):
        energies = {name: level.access_energy_pj * float(rng.choice((0.0, 0.5, 1.0, 3.0))) for name in ACCESSES}
        if rng.random() < 0.5:
            energies["leak"] = float(rng.choice((0.1, 2.0)))
        gate = levels[int(rng.integers(len(levels)))].name if rng.random() < 0.3 else None
        address = float(rng.choice((0.0, 0.0, 0.5)))
        levels[s] = replace(level, action_energies_pj=energies, power_gated_at=gate, address_energy_pj=address)
    if rng.random() < 0.5:
        levels[0] = replace(levels[0], cluster_size=2 if levels[0].instances % 2 == 0 else 1)
    if rng.random() < 0.3 and levels[0].capacity_words != 1:
        levels[0] = replace(levels[0], multiple_buffering=1.5)
    return replace(accelerator, levels=tuple(levels))


def with_bandwidths(rng: np.random.Generator, accelerator: Accelerator) -> Accelerator:
    """The accelerator with limits of bandwidth that often hold, some of them by tensor."""
    levels = []
    for level in accelerator.levels:
        limits = {
            f"{kind}_bandwidth_words_per_cycle": float(rng.choice((0.25, 0.5, 1.0, 2.0, 3.0)))
            for kind in ("read", "write", "shared")
            if rng.random() < 0.4
        }
        scale = {"Inputs": float(rng.choice((0.5, 2.0)))} if rng.random() < 0.3 else ()
        levels.append(replace(level, **limits, bandwidth_scale=scale))
    return replace(accelerator, levels=tuple(levels))


def random_workload(rng: np.random.Generator) -> Workload:
    bounds = (1, 1, 1, 2, 2, 3, 4, 4, 6, 8, 9)

    def bound() -> int:
        return int(rng.choice(bounds))

    kind = rng.integers(6)
    if kind == 0:
        return matmul(B=bound(), M=bound(), K=bound(), N=bound(), shared_weights=bool(rng.random() < 0.5))
    window = {"stride": int(rng.integers(1, 4)), "dilation": int(rng.integers(1, 3))}
    sliding = {dim: bound() for dim in "PR"} | (
        {dim: bound() for dim in "QS"} if rng.random() < 0.4 else {"Q": 1, "S": 1}
    )
    others = {dim: bound() if rng.random() < 0.5 else 1 for dim in "NCM"}
    if kind == 1:
        del others["M"]
        return depthwise_conv2d(**sliding, **others, **window)
    return conv2d(**sliding, **others, **window)


def random_accelerator(rng: np.random.Generator, peer_links: bool) -> Accelerator:
    lanes, blocks = ((1, 2, 4, 6)[int(rng.integers(4))] for _ in range(2))
    lanes_y, blocks_y = (1 if rng.random() < 0.8 else 2 for _ in range(2))
    tensors = ("Weights", "Inputs", "Outputs")
    levels = [
        StorageLevel(
            "Registers",
            capacity_words=int(rng.integers(3, 60)),
            mesh_x=blocks,
            mesh_y=blocks_y,
            access_energy_pj=float(rng.choice((0.5, 1.0, 7.0))),
        ),
        StorageLevel(
            "Buffer",
            capacity_words=int(rng.integers(20, 300)),
            access_energy_pj=float(rng.choice((3.0, 6.0, 40.0))),
            keep_only=None if rng.random() < 0.8 else tensors[int(rng.integers(3)) :],
        ),
        StorageLevel("Memory", access_energy_pj=200.0),
    ]
    if rng.random() < 0.15:
        del levels[1]
    mac = Mac(mesh_x=lanes * blocks, mesh_y=lanes_y * blocks_y)
    return Accelerator("tiny", tuple(levels), mac, peer_links=peer_links)


def random_deep_space(rng: np.random.Generator, rules: str = DEFAULT_RULES) -> MapSpace:
    """A random space of at most ``MAX_CODES`` codes on two to five levels, with meshes and networks anywhere."""
    while True:
        workload = random_workload(rng)
        accelerator = replace(random_hierarchy(rng), rules=rules)
        axes = ("tile", "order", "parallelism") + (("bypass",) if rng.random() < 0.5 else ())
        constraints: dict[str, object] = {"orders": {accelerator.level_names[0]: []}}
        if rng.random() < 0.2:
            constraints["parallel_dims"] = tuple(rng.choice(workload.dims, 2, replace=False).tolist())
        if rng.random() < 0.2:
            level = accelerator.level_names[int(rng.integers(len(accelerator.levels)))]
            constraints["orders"] |= {level: rng.permutation(workload.dims).tolist()}
        space = MapSpace(workload, accelerator, axes, Constraints(**constraints))
        if np.prod(space.nvec.astype(float)) <= MAX_CODES:
            return replace_accelerator(space, with_action_energies(rng, accelerator)) if rng.random() < 0.4 else space


def random_hierarchy(rng: np.random.Generator) -> Accelerator:
    """Two to five levels, each with a mesh below it, some with networks that cost energy, some for one tensor."""
    count = int(rng.integers(2, 6))
    tensors = ("Weights", "Inputs", "Outputs")
    side_x, side_y, levels = 1, 1, []
    energies = sorted((float(rng.choice((0.5, 1.0, 3.0, 7.0, 20.0))) for _ in range(count - 1)), reverse=True)
    for s in range(count - 1, -1, -1):
        network = {
            name: float(rng.choice((0.0, 0.3, 2.0)))
            for name in ("energy_per_hop_pj", "router_energy_pj", "energy_per_ingress_pj")
            if rng.random() < 0.4
        }
        keep_only = None if s == count - 1 or rng.random() < 0.7 else (tensors[int(rng.integers(3))],)
        levels.append(
            StorageLevel(
                f"Level{s}",
                capacity_words=None if s == count - 1 else int(rng.integers(3, 60 if s == 0 else 300)),
                mesh_x=side_x,
                mesh_y=side_y,
                access_energy_pj=200.0 if s == count - 1 else energies[count - 2 - s],
                block_size_words=int(rng.choice((1, 1, 1, 2, 4))),
                keep_only=keep_only,
                **network,
            )
        )
        if rng.random() < 0.5:
            side_x *= int(rng.choice((2, 3, 4)))
            side_y *= int(rng.choice((1, 1, 2)))
    return Accelerator("tiny", tuple(levels[::-1]), Mac(mesh_x=side_x, mesh_y=side_y), peer_links=False)
