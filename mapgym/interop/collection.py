"""What has been read of a foreign network: its layers, each distinct one once, and what was left out of it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from mapgym.errors import SpecificationError
from mapgym.errors.text import harmful_character, quoted, shortened
from mapgym.interop.products import Product
from mapgym.spec.catalog import Network

_LONGEST_LAYER = 200
_MOST_LAYERS = 10_000
"""Distinct layers; a file of ours holds no more values than their figures."""


@dataclass(frozen=True)
class LeftOut:
    """Operators that are not among the layers.

    Attributes:
        operator: its name, with its domain if that is not the framework's own.
        count: how many of them the network has.
        multiplies: whether they have, or may have, multiply-accumulates that are then missing from the network.
    """

    operator: str
    count: int
    multiplies: bool = False


@dataclass(frozen=True)
class ImportedNetwork:
    """A network of another program.

    Attributes:
        data: the network, with the keys of :meth:`mapgym.spec.catalog.Network.from_dict`.
        left_out: what is not in it, the most frequent first.
        parameters: words of the weights of all layers, each tensor once however many layers have it.
        unmeasured: layers whose weights are made while the network runs, so that their densities could not be measured.
    """

    data: Mapping[str, Any]
    left_out: tuple[LeftOut, ...]
    parameters: int
    unmeasured: tuple[str, ...] = ()

    @property
    def network(self) -> Network:
        """The network."""
        return Network.from_dict(self.data, str(self.data["name"]))

    @property
    def uncounted(self) -> tuple[LeftOut, ...]:
        """The operators whose multiply-accumulates, if they have any, are missing."""
        return tuple(one for one in self.left_out if one.multiplies)

    def require_complete(self, remedy: str) -> None:
        """Raises SpecificationError if multiply-accumulates may be missing.

        Args:
            remedy: what to do about it.
        """
        if self.uncounted:
            raise SpecificationError(
                f"{self.data['name']}: the multiply-accumulates of {listed(self.uncounted)} are not known; {remedy}"
            )


def listed(entries: Iterable[LeftOut]) -> str:
    """Operators that were left out, for people: "17 Relu, 1 MaxPool"."""
    return ", ".join(f"{one.count} {one.operator}" for one in entries)


class Collection:
    """Takes the operators of a network one by one, in its order."""

    def __init__(self, name: str) -> None:
        """Takes what to call the network."""
        self._name = visible(name) or "network"
        self._layers: dict[str, tuple[str, Mapping[str, Any]]] = {}
        self._repeats: Counter[str] = Counter()
        self._names: set[str] = set()
        self._left_out: Counter[tuple[str, bool]] = Counter()
        self._parameters: dict[str, int] = {}
        self._unmeasured: dict[str, None] = {}

    def add(self, name: str, product: Product, density: float | None = None) -> str:
        """Adds a product; one that is there already is repeated.

        Args:
            name: of the operator; what it becomes if it is empty, taken, or unprintable is returned.
            product: the product; with a bound of 0 it is nothing.
            density: of its Weights, if that was measured.
        """
        entry = dict(product.entry)
        if density is not None and density < 1:
            entry["densities"] = {"Weights": density}
        key = json.dumps(entry, sort_keys=True)
        if key not in self._layers:
            if len(self._layers) >= _MOST_LAYERS:
                raise SpecificationError(
                    f"the network has more than {_MOST_LAYERS:,} distinct layers; give a part of it"
                )
            self._layers[key] = (self._free(f"{name}/{product.part}" if product.part else name), entry)
        self._repeats[key] += product.repeats
        return self._layers[key][0]

    def keep_weights(self, name: str, words: int) -> None:
        """Counts the words of a tensor of weights, once for each name."""
        self._parameters[name] = words

    def unmeasured(self, layer: str) -> None:
        """A layer whose density could not be measured."""
        self._unmeasured[layer] = None

    def leave_out(self, operator: str, *, multiplies: bool = False) -> None:
        """Counts an operator that is no layer."""
        self._left_out[visible(operator), multiplies] += 1

    def finished(self, source: str) -> ImportedNetwork:
        """The network.

        Args:
            source: where it is from, in a few words.

        Raises:
            SpecificationError: nothing is multiplied and accumulated in it.
        """
        left_out = tuple(
            LeftOut(operator, count, multiplies) for (operator, multiplies), count in self._left_out.most_common()
        )
        if not self._layers:
            raise SpecificationError(
                f"{self._name}: no multiply-accumulates are known in it ({listed(left_out) or 'it is empty'}); give a "
                "network with convolutions or products of matrices"
            )
        repeats = {key: {"repeats": count} if count > 1 else {} for key, count in self._repeats.items()}
        uncounted = listed(one for one in left_out if one.multiplies)
        without = listed(one for one in left_out if not one.multiplies)
        remarks = [f"imported from {source}"]
        remarks += [f"multiply-accumulates missing: {uncounted}"] if uncounted else []
        remarks += [f"left out, as they have none: {without}"] if without else []
        data = {
            "name": self._name,
            "description": "; ".join(remarks),
            "layers": {name: {**entry, **repeats[key]} for key, (name, entry) in self._layers.items()},
        }
        return ImportedNetwork(data, left_out, sum(self._parameters.values()), tuple(self._unmeasured))

    def _free(self, name: str) -> str:
        name = visible(name) or f"layer{len(self._layers) + 1}"
        candidate, number = name, 2
        while candidate in self._names:
            candidate, number = f"{name}_{number}", number + 1
        self._names.add(candidate)
        return candidate


def visible(name: str) -> str:
    """A foreign name as one of ours: of one line, without what no name may hold, not too long."""
    kept = "".join(character for character in name if harmful_character(character) is None)
    return shortened(kept.strip(), _LONGEST_LAYER).strip()


def require_sizes(product: Product, where: str) -> bool:
    """Whether a product has anything to multiply: an axis of 0 words leaves nothing of it.

    Raises:
        SpecificationError: a bound is negative: the window is larger than what it slides over.
    """
    bounds = [*product.entry.get("dims", product.entry).values(), product.repeats]
    numbers = [bound for bound in bounds if isinstance(bound, int) and not isinstance(bound, bool)]
    if min(numbers) < 0:
        raise SpecificationError(
            f"{where} has an axis of {quoted(min(numbers))} words; its window is larger than its input"
        )
    return min(numbers) > 0
