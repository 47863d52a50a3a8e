"""Random accelerators, for what is to learn from more hardware than a catalog holds."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, replace

import numpy as np

from mapgym.errors import SpecificationError
from mapgym.spec import catalog
from mapgym.spec.accelerator import MOST_MACS, Accelerator
from mapgym.spec.levels import Mac, StorageLevel
from mapgym.spec.random_layers import number_range, one_of, share, whole_range, within
from mapgym.spec.rules import DEFAULT_RULES
from mapgym.spec.splits import TRAINING, load_split

_MOST_TRIES = 1000


@dataclass(frozen=True)
class RandomAccelerators:
    """Draws accelerators: those of the training split, and made-up ones.

    A made-up one has two to four levels on one mesh side (two of five) or on two, main memory without a limit on top,
    and capacities and energies on logarithmic scales: an access costs as much as in the catalog, within a factor of two
    as a rule. An accelerator has links between neighbours in one of two draws.

    Attributes:
        training: the share of the accelerators of the training split, which the ranges do not touch, between 0 and 1.
        levels: the least and the largest number of levels, main memory included.
        capacities: of a level in words, on a logarithmic scale.
        fanouts: of a level on a mesh side; one that falls outside is drawn anew, on a logarithmic scale.
        mac_units: the least and the largest number of multiply-accumulate units; meshes outside are drawn anew.
        bandwidths: of a level, shared by reads and writes, in words a cycle, on a logarithmic scale.
        limited: the share of the made-up accelerators with limits of bandwidth.
        rules: under which costs are counted.

    Raises:
        SpecificationError: what is no range.
    """

    training: float = 0.7
    levels: tuple[int, int] = (2, 4)
    capacities: tuple[int, int] = (8, 2**20)
    fanouts: tuple[int, int] = (1, 128)
    mac_units: tuple[int, int] = (1, 2**14)
    bandwidths: tuple[float, float] = (2.0, 128.0)
    limited: float = 0.15
    rules: str = DEFAULT_RULES

    def __post_init__(self) -> None:
        for name in ("training", "limited"):
            object.__setattr__(self, name, share(getattr(self, name), f"random accelerators: {name}"))
        for name in ("levels", "capacities", "fanouts", "mac_units"):
            object.__setattr__(self, name, whole_range(getattr(self, name), f"random accelerators: {name}"))
        bandwidths = number_range(self.bandwidths, "random accelerators: bandwidths", least=2.0**-10)
        object.__setattr__(self, "bandwidths", bandwidths)
        if self.levels[0] < 2:
            raise SpecificationError("random accelerators: levels starts at 1; give at least 2, main memory included")
        if self.mac_units[1] > MOST_MACS:
            raise SpecificationError(
                f"random accelerators: mac_units ends at {self.mac_units[1]}; at most 2**20 are supported"
            )
        _any_accelerator().counted_by(self.rules)  # refuses unknown ones

    def draw(self, rng: np.random.Generator) -> Accelerator:
        """An accelerator.

        Args:
            rng: everything random.

        Raises:
            SpecificationError: no mesh falls into the ranges.
        """
        names = load_split(TRAINING).accelerators
        drawn = catalog.accelerator(one_of(rng, names)) if rng.random() < self.training else self._made_up(rng)
        return replace(drawn, peer_links=bool(rng.random() < 0.5), rules=self.rules)

    def _made_up(self, rng: np.random.Generator) -> Accelerator:
        levels = within(rng, int(rng.choice((2, 3, 4), p=(0.1, 0.65, 0.25))), self.levels)
        is_flat, is_limited = bool(rng.random() < 0.4), bool(rng.random() < self.limited)
        meshes = self._meshes(rng, levels, is_flat)
        low, high = (math.log2(words) for words in self.capacities)
        capacities = [None, *np.sort(2.0 ** rng.uniform(low, high, levels - 1))[::-1].astype(int).tolist()]
        slowest, fastest = (math.log2(bandwidth) for bandwidth in self.bandwidths)
        storage = []
        for k, words in enumerate(capacities):
            block = one_of(rng, (1, 4, 8)) if k < levels - 1 else 1
            # As in the catalog: a small SRAM costs as much as a multiply-accumulate, main memory 200 times that.
            energy = (200.0 if words is None else 1.0 + words / 10_000) * block * 2.0 ** rng.normal(0, 0.5)
            # In tables of energies, writing costs about as much as reading, or somewhat more.
            table = {"write": energy * 2.0 ** rng.normal(0.2, 0.3)} if rng.random() < 0.5 else {}
            storage.append(
                StorageLevel(
                    f"Level{k}",
                    capacity_words=words,
                    mesh_x=meshes[k][0],
                    mesh_y=meshes[k][1],
                    access_energy_pj=energy,
                    action_energies_pj=tuple(table.items()),
                    block_size_words=block,
                    shared_bandwidth_words_per_cycle=2.0 ** rng.uniform(slowest, fastest) if is_limited else None,
                    energy_per_hop_pj=2.0 ** rng.uniform(-6, 0) if rng.random() < 0.3 else 0.0,
                )
            )
        mac = Mac(mesh_x=meshes[-1][0], mesh_y=meshes[-1][1], energy_pj=2.0 ** rng.uniform(-2, 0.5))
        # Two of one size are told apart by what the hash is made of: everything else.
        digits = hashlib.sha256(repr((storage, mac)).encode()).hexdigest()[:6]
        name = f"random/{levels}-levels-{mac.mesh_x}x{mac.mesh_y}-{digits}"
        return Accelerator(name, tuple(storage[::-1]), mac)

    def _meshes(self, rng: np.random.Generator, levels: int, is_flat: bool) -> list[list[int]]:
        """Instances of each level on both mesh sides, outermost first; as many MACs as there may be."""
        for _ in range(_MOST_TRIES):
            # None below main memory, as in chips.
            fanouts = [(1, 1)]
            for _ in range(levels - 1):
                x = within(rng, _fanout(rng), self.fanouts)
                fanouts.append((x, 1 if is_flat else within(rng, _fanout(rng), self.fanouts)))
            meshes: list[list[int]] = np.cumprod([(1, 1), *fanouts], axis=0).tolist()
            if self.mac_units[0] <= math.prod(meshes[-1]) <= self.mac_units[1]:
                return meshes
        raise SpecificationError(
            f"random accelerators: none of {_MOST_TRIES:,} meshes of {levels} levels with fan-outs of "
            f"{self.fanouts[0]} to {self.fanouts[1]} has {self.mac_units[0]} to {self.mac_units[1]} MACs; give wider "
            "ranges"
        )


def _any_accelerator() -> Accelerator:
    return catalog.accelerator(load_split(TRAINING).accelerators[0])


def _fanout(rng: np.random.Generator) -> int:
    """Parallelism on one mesh side below one instance: often none, usually a power of two."""
    kind = rng.random()
    if kind < 0.3:
        return 1
    return int(2 ** rng.integers(1, 8)) if kind < 0.8 else int(rng.integers(3, 33))
