"""Random workloads, accelerators and mappings, biased to where the cost rules have corners.

Small bounds and up to a few hundred parallel units keep the enumerating reference model fast; the corners are
sliding windows (halo), parallel loops that share offsets (multicast) or pass words on (links), used meshes narrower
than the physical ones, bypass, tight capacities, scarce bandwidth and energies of all kinds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from hypothesis import strategies as st

from mapgym.cost import CostModel
from mapgym.errors import SpecificationError
from mapgym.mapping import Mapping, MappingBatch
from mapgym.mapping.mapping import divisors
from mapgym.spec.accelerator import Accelerator
from mapgym.spec.actions import ACCESSES, ActionNames
from mapgym.spec.levels import Mac, Numbers, StorageLevel
from mapgym.spec.rules import RULE_SETS
from mapgym.spec.tensor import Rank, Tensor
from mapgym.spec.workload import Workload, conv2d, depthwise_conv2d, matmul, mttkrp

BOUNDS = (1, 2, 2, 3, 3, 4, 4, 5, 6, 7, 8, 9, 10, 12, 14, 15, 16, 18, 20, 24)
FANOUTS = (1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 14, 16)
MAX_MACS = 288
MAX_ITERATIONS = 3_000_000

STYLES = ("random", "stationary", "halo", "spatial halo", "spatial halo", "spatial reduction", "twos", "narrow")
DAMAGES = ("factor", "kept nowhere", "fan-out", "fan-out", "axis", "axis", "outermost", "keep only")


@dataclass(frozen=True)
class Case:
    """A task and mappings of it, most of them legal."""

    workload: Workload
    accelerator: Accelerator
    batch: MappingBatch


def pick(rng: np.random.Generator, choices):
    """One of a sequence, as it is (not as a NumPy scalar)."""
    return choices[int(rng.integers(len(choices)))]


def chance(rng: np.random.Generator, probability: float) -> bool:
    return bool(rng.random() < probability)


def random_conv2d(rng: np.random.Generator) -> Workload:
    pairs = {key: (pick(rng, (1, 1, 2, 3)), pick(rng, (1, 1, 2, 4))) for key in ("stride", "dilation")}
    bounds = {dim: pick(rng, BOUNDS) for dim in "NCPQM"} | {dim: pick(rng, (1, 2, 3, 4, 5, 6)) for dim in "RS"}
    return conv2d(**bounds, **pairs)


def random_depthwise(rng: np.random.Generator) -> Workload:
    pairs = {key: (pick(rng, (1, 1, 2)), pick(rng, (1, 2, 3))) for key in ("stride", "dilation")}
    bounds = {dim: pick(rng, BOUNDS) for dim in "NCPQ"} | {dim: pick(rng, (1, 2, 3, 4, 5)) for dim in "RS"}
    return depthwise_conv2d(**bounds, **pairs)


def random_matmul(rng: np.random.Generator) -> Workload:
    return matmul(**{dim: pick(rng, BOUNDS) for dim in "BMKN"}, shared_weights=chance(rng, 0.3))


def random_mttkrp(rng: np.random.Generator) -> Workload:
    return mttkrp(**{dim: pick(rng, BOUNDS) for dim in "IJKL"})


def random_conv3d(rng: np.random.Generator) -> Workload:
    """Three sliding windows, so that three ranks of a tensor have two terms."""
    window = [((f"F{i}", pick(rng, (1, 1, 2))), (f"O{i}", pick(rng, (1, 1, 2)))) for i in range(3)]
    bounds = {"C": pick(rng, (1, 2, 3)), "M": pick(rng, (1, 2, 4))}
    for i in range(3):
        bounds |= {f"F{i}": pick(rng, (2, 2, 3, 4)), f"O{i}": pick(rng, (2, 3, 4, 6))}
    channel, filters = (("C", 1),), (("M", 1),)
    return Workload(
        "conv3d",
        tuple(bounds),
        tuple(bounds.values()),
        (
            Tensor("Weights", (channel, filters, *(((f"F{i}", 1),) for i in range(3)))),
            Tensor("Inputs", (channel, *window)),
            Tensor("Outputs", (filters, *(((f"O{i}", 1),) for i in range(3))), is_output=True),
        ),
    )


def random_einsum(rng: np.random.Generator) -> Workload:
    """Any projection: ranks of up to three terms, dims in several ranks or in none, one to four tensors."""
    dims = [f"D{i}" for i in range(int(rng.integers(2, 8)))]
    bounds = [pick(rng, BOUNDS[:14]) for _ in dims]
    tensors = []
    count = int(rng.integers(1, 5))
    for t in range(count):
        ranks: list[Rank] = []
        free = [str(dim) for dim in rng.permutation(dims)]
        while free and len(ranks) < 4 and (not ranks or chance(rng, 0.75)):
            terms = min(pick(rng, (1, 1, 1, 2, 2, 3)), len(free))
            ranks.append(tuple((dim, pick(rng, (1, 1, 1, 2, 3))) for dim in free[:terms]))
            free = free[terms:] if chance(rng, 0.85) else [str(dim) for dim in rng.permutation(dims)]
        tensors.append(Tensor(f"T{t}", tuple(ranks), is_output=t == count - 1))
    return Workload("einsum", tuple(dims), tuple(bounds), tuple(tensors))


def random_holes(rng: np.random.Generator) -> Workload:
    """An output with holes: a transposed convolution, with a stride and a dilation of the output."""
    pairs = [(f"P{i}", f"R{i}") for i in range(int(rng.integers(1, 3)))]
    bounds = {"C": pick(rng, (1, 2, 3, 4, 6))}
    for window in pairs:
        bounds |= {window[0]: pick(rng, (2, 3, 4, 6, 8, 12)), window[1]: pick(rng, (1, 2, 2, 3, 4))}
    coefficients = (1, 2, 2, 3, 4, 5, 7)
    sums = tuple(tuple((dim, pick(rng, coefficients)) for dim in window) for window in pairs)
    if chance(rng, 0.25):
        bounds["S"] = pick(rng, (2, 3, 4))
        sums = ((*sums[0], ("S", pick(rng, coefficients))), *sums[1:])
    tensors = (
        Tensor("Weights", ((("C", 1),), *(((window[1], 1),) for window in pairs))),
        Tensor("Inputs", ((("C", 1),), *(((window[0], 1),) for window in pairs))),
        Tensor("Outputs", sums, is_output=True),
    )
    return Workload("holes", tuple(bounds), tuple(bounds.values()), tensors)


def random_diagonal(rng: np.random.Generator) -> Workload:
    """A dim in two ranks of an operand, of the output or of both, alone there or beside others."""
    bounds = {dim: pick(rng, (2, 2, 3, 4, 6, 8)) for dim in "IKLM"} | {"J": pick(rng, (1, 2, 4))}

    def twice(others: str) -> tuple[Rank, ...]:
        ranks = []
        another = chance(rng, 0.5)
        for other in others:
            rank = [("I", pick(rng, (1, 1, 1, 2, 3)))]
            if another:
                rank.append(("J", pick(rng, (1, 1, 1, 2))))
            if chance(rng, 0.8):
                rank.append((other, pick(rng, (1, 1, 2))))
            ranks.append(tuple(rank))
        return (*ranks, (("M", 1),)) if chance(rng, 0.3) else tuple(ranks)

    plain = tuple(((dim, 1),) for dim in "KLM")
    operand, output = pick(rng, ((True, False), (True, False), (False, True), (True, True)))
    tensors = (
        Tensor("A", twice("KL") if operand else plain),
        Tensor("B", ((("I", 1),), (("L", 1),))),
        Tensor("Outputs", twice("LK") if output else plain[:2], is_output=True),
    )
    return Workload("diagonal", tuple(bounds), tuple(bounds.values()), tensors)


WORKLOADS = (random_conv2d, random_conv2d, random_depthwise, random_matmul, random_mttkrp, random_conv3d, random_einsum)
WITH_CORNERS = (random_einsum, random_holes, random_diagonal)


def random_workload(rng: np.random.Generator) -> Workload:
    while True:
        workload = pick(rng, (*WORKLOADS, *WITH_CORNERS))(rng)
        if workload.macs > MAX_ITERATIONS:
            continue
        # The reference model looks at each word of an output that may have holes.
        has_holes = any(c > 1 or rank[1:] for rank in workload.output.ranks for _, c in rank)
        return enlarged(rng, workload) if chance(rng, 0.1) and not has_holes else workload


def enlarged(rng: np.random.Generator, workload: Workload) -> Workload:
    """With bounds so large that counts need most of the digits that float64 has."""
    for _ in range(int(rng.integers(1, 6))):
        d = int(rng.integers(len(workload.dims)))
        bounds = list(workload.bounds)
        bounds[d] *= pick(rng, (16, 25, 27, 64, 128))
        try:
            larger = replace(workload, bounds=tuple(bounds))
            CostModel(larger, Accelerator("one level", (StorageLevel("L0"),), Mac()))
        except SpecificationError:  # more than can be counted exactly
            break
        workload = larger
    return workload


def random_meshes(rng: np.random.Generator, levels: int) -> list[tuple[int, int]]:
    """Instances along X and Y of each level and of the MACs, outermost first: mostly one at the top."""
    two_dimensional = chance(rng, 0.6)
    mesh = (1, 1) if chance(rng, 0.9) else (pick(rng, (2, 3)), pick(rng, (1, 2)) if two_dimensional else 1)
    meshes = [mesh]
    for _ in range(levels):
        x, y = pick(rng, FANOUTS), pick(rng, FANOUTS) if two_dimensional else 1
        if chance(rng, 0.3) or math.prod(mesh) * x * y > MAX_MACS:
            x, y = 1, 1
        mesh = (mesh[0] * x, mesh[1] * y)
        meshes.append(mesh)
    return meshes


def random_amount(rng: np.random.Generator, most: float) -> float:
    return float(rng.uniform(most / 200, most))


def random_network(rng: np.random.Generator) -> dict[str, float]:
    """Energies of one network."""
    network = {}
    if chance(rng, 0.3):
        network["wire_energy_pj_per_bit_mm"] = random_amount(rng, 0.1)
        network["tile_width_um"] = float(pick(rng, (100, 1000, 2500)))
    elif chance(rng, 0.6):
        network["energy_per_hop_pj"] = random_amount(rng, 2.0)
    if chance(rng, 0.5):
        network["router_energy_pj"] = random_amount(rng, 2.0)
    if chance(rng, 0.3):
        network["energy_per_ingress_pj"] = random_amount(rng, 2.0)
    return network


def random_table(rng: np.random.Generator, names: ActionNames, actions: tuple[str, ...], most: float) -> Numbers:
    """Energies of some actions, under some of the names that are known for them."""
    known = dict.fromkeys(name for action in actions for name in names[action])
    return tuple((name, random_amount(rng, most)) for name in known if chance(rng, 0.3))


def some(rng: np.random.Generator, names: list[str], probability: float) -> tuple[str, ...]:
    return tuple(name for name in names if chance(rng, probability))


def random_accelerator(rng: np.random.Generator, workload: Workload, rules: str | None = None) -> Accelerator:
    """2 to 6 levels (now and then a single one) without capacities; see :func:`with_capacities`.

    Args:
        rng: source of randomness.
        workload: whose tensors it names.
        rules: which it counts as; any when None.
    """
    count = pick(rng, (1, 2, 2, 3, 3, 3, 4, 4, 5, 6))
    rules = rules or pick(rng, tuple(RULE_SETS))
    *meshes, mac_mesh = random_meshes(rng, count)
    scarce, wired, restricted, tabled = (chance(rng, probability) for probability in (0.35, 0.6, 0.15, 0.4))
    tensors = [tensor.name for tensor in workload.tensors]
    levels: list[StorageLevel] = []
    for i, (mesh_x, mesh_y) in enumerate(meshes):
        features: dict[str, Any] = random_network(rng) if wired else {}
        for kind in ("read", "write", "shared"):
            if scarce and chance(rng, 0.5):
                limit = pick(rng, (0.25, 0.5, 1.0, 1.3, 2.0, 3.0, 4.0, 16.0))
                features[f"{kind}_bandwidth_words_per_cycle"] = limit
        if scarce and chance(rng, 0.4):
            features["bandwidth_scale"] = tuple((name, pick(rng, (0.25, 0.5, 1.5, 3.0))) for name in tensors[:2])
        if restricted:
            features |= {key: some(rng, tensors, 0.3) for key in ("no_temporal_reuse", "no_multicast")}
        if tabled:
            actions = (*ACCESSES, "leak")
            features["action_energies_pj"] = random_table(rng, RULE_SETS[rules].action_names, actions, 200.0)
            if chance(rng, 0.3):
                features["power_gated_at"] = pick(rng, (*(level.name for level in levels), f"L{count - 1 - i}"))
        if i and chance(rng, 0.12):
            features["keep_only"] = some(rng, tensors, 0.6) if chance(rng, 0.6) else ()
        level = StorageLevel(
            name=f"L{count - 1 - i}",
            mesh_x=mesh_x,
            mesh_y=mesh_y,
            access_energy_pj=random_amount(rng, 200.0),
            address_energy_pj=random_amount(rng, 2.0) if chance(rng, 0.2) else 0.0,
            block_size_words=pick(rng, (1, 1, 2, 4, 8)),
            word_bits=pick(rng, (8, 16)),
            cluster_size=pick(rng, divisors(mesh_x * mesh_y)) if chance(rng, 0.3) else 1,
            **features,
        )
        levels.append(level)
    table = random_table(rng, RULE_SETS[rules].action_names, ("compute",), 4.0) if tabled else ()
    return Accelerator(
        "random",
        tuple(levels[::-1]),
        Mac("MAC", *mac_mesh, random_amount(rng, 4.0), action_energies_pj=table),
        peer_links=chance(rng, 0.85),
        fanout_check=pick(rng, ("per_level", "cumulative")),
        rules=rules,
    )


def with_capacities(rng: np.random.Generator, workload: Workload, case: Case, least: bool = False) -> Accelerator:
    """The accelerator with capacities at which most of the mappings fit, some only just and some not.

    Args:
        rng: source of randomness.
        workload: the layer.
        case: mappings.
        least: whether some levels have to be filled to a part, too.
    """
    extents = np.cumprod(case.batch.temporal.astype(np.int64) * case.batch.spatial, axis=1)
    levels = []
    for s, level in enumerate(case.accelerator.levels):
        needed = sorted(
            sum(
                tensor.tile_size(dict(zip(workload.dims, row[s].tolist(), strict=True)))
                for tensor, kept in zip(workload.tensors, keep[s], strict=True)
                if kept
            )
            for row, keep in zip(extents, case.batch.keep, strict=True)
        )
        fits = max(1, needed[int(len(needed) * pick(rng, (0.7, 0.9, 0.95, 0.999)))])
        if chance(rng, 0.7 if s < len(case.accelerator.levels) - 1 else 0.05):
            parts = pick(rng, (1.25, 1.5, 2.0, 3.0)) if chance(rng, 0.2) else 1.0
            level = replace(level, capacity_words=math.ceil(fits * parts), multiple_buffering=parts)
            if least and chance(rng, 0.2):
                level = replace(level, minimum_utilization=pick(rng, (needed[len(needed) // 8] / fits, 0.01)))
        levels.append(level)
    return replace(case.accelerator, levels=tuple(levels))


def random_mapping(rng: np.random.Generator, workload: Workload, accelerator: Accelerator) -> Mapping:
    """A mapping that respects each level's fan-out and every dim's bound, in a random style."""
    mapping = Mapping.trivial(workload, accelerator)
    style = pick(rng, STYLES)
    left = list(workload.bounds)
    levels = list(range(len(accelerator.levels)))
    for s in rng.permutation(levels).tolist():
        _parallelise(rng, workload, accelerator, mapping, s, left, style)
    _tile(rng, mapping, left, style)
    for s in levels:
        mapping.order[s] = _temporal_order(rng, workload, style)
    if chance(rng, 0.4):
        _bypass(rng, mapping)
    return mapping


def _parallelise(
    rng: np.random.Generator,
    workload: Workload,
    accelerator: Accelerator,
    mapping: Mapping,
    s: int,
    left: list[int],
    style: str,
) -> None:
    """Chooses spatial factors of a level, which X and Y hold, and their order; divides ``left`` by them."""
    dims = _parallel_preference(rng, workload, style)
    room = [accelerator.fanout_x[s], accelerator.fanout_y[s]]
    if accelerator.fanout_check == "cumulative" and chance(rng, 0.15):
        # A level may then use more than its own fan-out; too much of it is illegal, which is as welcome.
        room = [max(1, accelerator.mac.mesh_x // accelerator.levels[s].mesh_x), room[1]]
    if style == "narrow":
        room = [max(1, room[0] - 1), room[1]]
    eager = pick(rng, (0.3, 0.7, 0.95))
    on: tuple[list[int], list[int]] = ([], [])
    for d in dims:
        axis = int(rng.integers(2)) if room[1] > 1 else 0
        choices = [f for f in divisors(left[d]) if f <= room[axis]]
        if len(choices) > 1 and chance(rng, eager):
            factor = choices[-1] if chance(rng, 0.5) else pick(rng, choices)
            mapping.spatial[s, d] = factor
            left[d] //= factor
            room[axis] //= factor
            on[axis].append(d)
        else:
            on[axis].append(d)
    if chance(rng, 0.5):
        for axis in on:
            rng.shuffle(axis)
    mapping.spatial_order[s] = on[0] + on[1]
    mapping.spatial_split[s] = len(on[0])


def _parallel_preference(rng: np.random.Generator, workload: Workload, style: str) -> list[int]:
    """Dims in the order in which they get parallel factors."""
    dims = [int(d) for d in rng.permutation(len(workload.dims))]
    first: list[int] = []
    if style == "spatial halo":
        windows = [rank for tensor in workload.tensors for rank in tensor.ranks if len(rank) > 1]
        if windows:
            window = [workload.dims.index(dim) for dim, _ in pick(rng, windows)]
            # With only one of its dims parallel, the other one can slide over the words of a neighbour.
            first = [int(d) for d in rng.permutation(window)][: pick(rng, (1, 2, 3))]
    elif style == "spatial reduction":
        tensor = workload.output if chance(rng, 0.7) else pick(rng, workload.tensors)
        first = [d for d in dims if workload.dims[d] not in tensor.dims]
    return first + [d for d in dims if d not in first]


def _tile(rng: np.random.Generator, mapping: Mapping, left: list[int], style: str) -> None:
    """Spreads what is left of each bound over the levels, as temporal factors."""
    levels = len(mapping.levels)
    weights = rng.dirichlet(np.full(levels, 0.7))
    mapping.temporal[:] = 1
    for d, rest in enumerate(left):
        while rest > 1:
            primes = [p for p in divisors(rest)[1:] if all(p % q for q in range(2, math.isqrt(p) + 1))]
            factor = primes[0] if style == "twos" else pick(rng, primes)
            if style == "twos" or chance(rng, 0.7):
                s = int(rng.choice(levels, p=weights))
            else:
                s, factor = int(rng.integers(levels)), rest
            mapping.temporal[s, d] *= factor
            rest //= factor


def _temporal_order(rng: np.random.Generator, workload: Workload, style: str) -> list[int]:
    """Loop order of a level, innermost first."""
    dims = [int(d) for d in rng.permutation(len(workload.dims))]
    first: list[int] = []
    if style in ("stationary", "spatial reduction") or (style == "narrow" and chance(rng, 0.5)):
        tensor = pick(rng, workload.tensors)
        first = [d for d in dims if workload.dims[d] not in tensor.dims]
    elif style in ("halo", "spatial halo", "twos"):
        sliding = {dim for tensor in workload.tensors for rank in tensor.ranks if len(rank) > 1 for dim, _ in rank}
        first = [d for d in dims if workload.dims[d] in sliding]
    return first + [d for d in dims if d not in first]


def _bypass(rng: np.random.Generator, mapping: Mapping) -> None:
    """Bypasses some tensors at some levels, but not at the outermost one."""
    drop = rng.random(mapping.keep.shape) < pick(rng, (0.15, 0.4, 0.8))
    mapping.keep[:-1] &= ~drop[:-1]


def damage(rng: np.random.Generator, mapping: Mapping, accelerator: Accelerator) -> None:
    """Breaks one rule, in place (or tries to: a small fan-out check may not notice)."""
    kind = pick(rng, DAMAGES)
    s, d = int(rng.integers(len(mapping.levels))), int(rng.integers(len(mapping.dims)))
    if kind == "factor":
        mapping.temporal[s, d] *= pick(rng, (2, 3, 7))
    elif kind == "kept nowhere":
        mapping.keep[:, int(rng.integers(len(mapping.tensors)))] = False
    elif kind == "axis":
        mapping.spatial_split[s] = int(rng.integers(len(mapping.dims) + 1))
    elif kind == "outermost":
        mapping.keep[-1, int(rng.integers(len(mapping.tensors)))] = False
    elif kind == "fan-out":
        # All of a dim becomes parallel at one level.
        whole = math.prod(mapping.temporal[:, d].tolist()) * math.prod(mapping.spatial[:, d].tolist())
        mapping.temporal[:, d] = 1
        mapping.spatial[:, d] = 1
        mapping.spatial[s, d] = whole
    else:
        for s, level in enumerate(accelerator.levels):
            if level.keep_only is not None:
                mapping.keep[s] = True


def random_case(
    rng: np.random.Generator, count: int, illegal: float = 0.06, rules: str | None = None, least: bool = False
) -> Case:
    """A task with ``count`` mappings, of which about the share ``illegal`` and those over a capacity are illegal.

    Args:
        rng: source of randomness.
        count: of mappings.
        illegal: share of them that break a rule.
        rules: which the accelerator counts as; any when None.
        least: whether some levels have to be filled to a part.
    """
    workload = random_workload(rng)
    accelerator = random_accelerator(rng, workload, rules)
    mappings = [random_mapping(rng, workload, accelerator) for _ in range(count)]
    accelerator = with_capacities(rng, workload, Case(workload, accelerator, _stack(mappings)), least)
    for mapping in mappings:
        if chance(rng, illegal):
            damage(rng, mapping, accelerator)
    return Case(workload, accelerator, _stack(mappings))


def cases(count: int = 8) -> st.SearchStrategy[Case]:
    """Hypothesis strategy of :func:`random_case`; only the seed is shrunk."""
    return st.integers(0, 2**32 - 1).map(lambda seed: random_case(np.random.default_rng(seed), count))


def _stack(mappings: list[Mapping]) -> MappingBatch:
    return MappingBatch.concatenate([mapping.batch() for mapping in mappings])
