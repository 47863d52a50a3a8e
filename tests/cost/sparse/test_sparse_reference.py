"""The sparse kernels against a second model that spells the rules out, on random hardware, layers and mappings."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from mapgym import CostModel, MapSpace
from mapgym.cost import lower_bound
from mapgym.errors import SpecificationError
from mapgym.spec.accelerator import Accelerator
from mapgym.spec.levels import Mac, StorageLevel
from mapgym.spec.rules import RULE_SETS
from mapgym.spec.workload import Workload, conv2d, matmul, mttkrp
from reference_sparse import SparseReference, metadata_array

AXES = ("tile", "order", "parallelism", "bypass")
EINSUMS = {
    "sddmm": {
        "dims": {"I": 6, "J": 6, "K": 4},
        "tensors": {
            "S": {"projection": ["I", "J"]},
            "A": {"projection": ["I", "K"]},
            "B": {"projection": ["J", "K"]},
            "Z": {"projection": ["I", "J"], "output": True},
        },
    },
    "copy": {
        "dims": {"I": 8, "J": 8},
        "tensors": {"X": {"projection": ["I", "J"]}, "Y": {"projection": ["I"], "output": True}},
    },
}


def random_workload(rng: np.random.Generator) -> Workload:
    """A small layer of any type, with a density for each tensor."""
    layers = [
        conv2d("conv", C=4, M=4, P=4, Q=3, R=2, S=2, stride=int(rng.integers(1, 3))),
        conv2d("pointwise", C=8, M=8, P=4, Q=1, R=1, S=1),
        matmul("product", M=8, K=8, N=6),
        mttkrp("mttkrp", I=4, J=4, K=4, L=3),
        *(Workload.from_dict({"name": name, **data}) for name, data in EINSUMS.items()),
    ]
    layer = layers[rng.integers(len(layers))]
    densities: dict[str, object] = {}
    for tensor in layer.tensors:
        kind = str(rng.choice(["fixed-structured", "hypergeometric", "banded"]))
        density = {"density": float(rng.choice([1.0, 0.75, 0.5, 0.3, 0.1])), "distribution": kind}
        if kind == "banded":
            density = {"distribution": kind, "band_width": int(rng.integers(0, 3))}
        try:
            layer.with_densities({tensor.name: density})
        except SpecificationError:  # no square matrix
            continue
        densities[tensor.name] = density
    return layer.with_densities(densities)


def random_formats(rng: np.random.Generator, tensors: list[str], dims: Sequence[str]) -> list[dict[str, list[str]]]:
    """Formats of three levels, innermost first, that go together."""
    levels: list[dict[str, list[str]]] = [{}, {}, {}]
    for tensor in tensors:
        kind = rng.integers(4)
        if kind == 0:
            continue
        codes = [str(rng.choice(["UOP", "UB"])) for _ in range(10)]
        compressed = [str(rng.choice(["CP", "RLE", "B"])) for _ in range(int(rng.integers(16, 26)))]
        ranks = codes + compressed if kind > 1 else codes * 4
        for s, number in enumerate((16, 24, len(ranks))):
            if s == 2 or kind > 1 or rng.random() < 0.5:
                levels[s][tensor] = ranks[-number:]
        if kind == 3:
            del levels[0][tensor]
    return [_with_extras(rng.spawn(1)[0], formats, dims) for formats in levels]


def _with_extras(rng: np.random.Generator, formats: dict[str, list[str]], dims: Sequence[str]) -> dict[str, list[str]]:
    """The same formats, some of whose ranks have words of their own, join loops or are taken from outside."""
    texts = ("", "", "", ":2", ":3/1", ":0")
    found = {}
    for tensor, ranks in formats.items():
        first = ["outer-to-inner"] * int(rng.random() < 0.3)
        join = 0.3 * int(rng.random() < 0.5)
        rest = []
        for rank in ranks:
            some = sorted(rng.choice(list(dims), int(rng.integers(1, len(dims) + 1)), replace=False))
            rest.append(rank + f"@{'+'.join(some)}" * int(rng.random() < join) + str(rng.choice(texts)))
        found[tensor] = first + rest
    return found


def random_machine(rng: np.random.Generator, workload: Workload) -> Accelerator:
    """Three levels with random formats, actions and energies."""
    names = [tensor.name for tensor in workload.tensors]
    formats, block = random_formats(rng, names, workload.dims), int(rng.choice([1, 2, 4]))
    levels = []
    for s, (name, mesh, capacity) in enumerate((("RF", (4, 1), 64), ("Buf", (2, 1), 512), ("DRAM", (1, 1), None))):
        actions = []
        for target in names:
            others = [name for name in names if name != target]
            if rng.random() < 0.5:
                on = rng.choice(others, int(rng.integers(1, len(others) + 1)), replace=False).tolist()
                actions.append({"type": str(rng.choice(["gating", "skipping"])), "target": target, "condition_on": on})
        energies = {"read": 2.0 + s, "write": 3.0, "gated_read": 0.5, "skipped_read": 0.25, "gated_write": 0.125}
        energies |= {"metadata_read": 0.75, "metadata_write": 0.5, "gated_metadata_read": 0.0625}
        energies |= {"decompression_count": 0.375, "compression_count": 0.4375}
        levels.append(
            StorageLevel(
                name,
                capacity,
                *mesh,
                block_size_words=block if s else 1,
                action_energies_pj=tuple(energies.items()),
                cluster_size=2 if s == 0 and rng.random() < 0.3 else 1,
                formats=tuple(formats[s].items()),
                actions=tuple(actions) if rng.random() < 0.8 else (),
                metadata_word_bits=4,
                metadata_access_bits=int(rng.choice([4, 16])),
                decompression_supported=True,
                compression_supported=True,
            )
        )
    compute = [name for name in ("gating", "skipping") if rng.random() < 0.5]
    mac = Mac("MAC", 8, 2, zero_operands=tuple(compute), action_energies_pj=(("mac", 1.0), ("mac_gated", 0.25)))
    rules = str(rng.choice(list(RULE_SETS)))
    return Accelerator("random", tuple(levels), mac, peer_links=bool(rng.integers(2)), rules=rules)


@pytest.mark.parametrize("seed", range(100))
def test_the_kernels_count_what_the_rules_say(seed):
    rng = np.random.default_rng(seed)
    workload = random_workload(rng)
    machine = random_machine(rng, workload)
    try:
        space = MapSpace(workload, machine, AXES)
        batch = space.sample(rng, 4)
    except SpecificationError:
        pytest.skip("the formats leave no mapping")
    costs = CostModel(workload, machine, is_canonical=False).evaluate(batch, detail=True)
    bound = lower_bound(workload, machine)
    is_exact = all(tensor.density_distribution != "hypergeometric" for tensor in workload.tensors)
    for i in np.flatnonzero(costs.legal):
        cost = costs[int(i)]
        savings = cost.savings
        if savings is None or savings.artefacts:
            continue
        assert cost.energy_pj >= bound.energy_pj
        assert cost.latency_cycles >= bound.latency_cycles
        reference = SparseReference(workload, machine, batch[int(i)], cost.detail)
        assert np.abs(np.subtract(savings.computes, reference.computes)).max() <= 1
        for (s, t), entry in reference.entries.items():
            ours = [int(getattr(savings, f"{name}s")[s, t]) for name in ("read", "fill", "update")]
            assert np.abs(np.subtract(ours, list(entry.counts.values()))).max() <= (not is_exact)
            gone = [int(savings.gated_reads[s, t] + savings.skipped_reads[s, t])]
            gone += [int(savings.gated_updates[s, t] + savings.skipped_updates[s, t])]
            assert np.abs(np.subtract(gone, [entry.saved["read"], entry.saved["update"]])).max() <= (not is_exact)
            assert savings.used_instances[s, t] == pytest.approx(entry.instances, rel=1e-9)
            if is_exact:
                assert savings.energy_pj[s, t] == pytest.approx(entry.energy, rel=1e-9)
        theirs = metadata_array(reference, savings.metadata_accesses)
        assert np.abs(savings.metadata_accesses - theirs).max(initial=0) <= (not is_exact)
