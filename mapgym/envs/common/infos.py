"""What environments say beside observations: the same entries after every reset and step, in NumPy's types.

Entries that have nothing to say are *blank*: -1 for figures (which are never negative), counts and actions, False for
events. Not NaN, because infos would then not be equal to themselves, which Gymnasium's checker asks of them. The blank
entries of an environment are made once; an info begins as a copy of the dict, and what there is to say takes the place
of blank arrays, which nobody may write to.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

MASK, ILLEGAL, EXECUTED, EXHAUSTED = "action_mask", "illegal_action", "executed_action", "budget_exhausted"
NOTHING = -1
"""A figure that is not known, and the executed action where there is none."""

MASKED: Mapping[str, np.generic] = {ILLEGAL: np.False_, EXECUTED: np.int64(NOTHING)}
"""Blank entries of environments that have illegal actions."""


def blank_infos(blank: Mapping[str, np.generic], n: int) -> dict[str, Any]:
    """The blank entries of n environments in Gymnasium's form: for each name an array and a mask, here all true."""
    every = read_only(np.ones(n, np.bool_))
    found: dict[str, Any] = {}
    for name, value in blank.items():
        found[name], found[f"_{name}"] = read_only(np.full(n, value)), every
    return found


class Infos:
    """What n environments have to say, in Gymnasium's form for vectors."""

    def __init__(self, n: int, blank: dict[str, Any]) -> None:
        """Takes the dict as it is."""
        self.n = n
        self.data = blank

    def set(self, name: str, rows: NDArray[np.int64], values: NDArray[Any]) -> None:
        """Sets an entry for some environments: values[k] for environment rows[k]."""
        if len(rows):
            array = self.data[name]
            if not array.flags.writeable:
                array = self.data[name] = array.copy()
            array[rows] = values

    def set_rows(self, names: Sequence[str], rows: NDArray[np.int64], table: NDArray[Any]) -> None:
        """Sets figures of some environments: table[j, k] under the name j for environment rows[k]."""
        if not len(rows):
            return
        if self.data[names[0]].flags.writeable:
            for name, values in zip(names, table, strict=True):
                self.set(name, rows, values)
            return
        # They are blank, and said together.
        whole = np.full((len(names), self.n), NOTHING, table.dtype)
        whole[:, rows] = table
        self.data.update(zip(names, whole, strict=True))

    def mark(self, name: str, rows: NDArray[np.int64]) -> None:
        """Says of some environments that something has happened."""
        if len(rows):
            self.set(name, rows, np.ones(len(rows), np.bool_))

    def set_all(self, name: str, values: NDArray[Any]) -> None:
        """Sets an entry for every environment; takes the array as it is."""
        self.data[name] = values

    def take_over(self, before: Infos, rows: NDArray[np.bool_]) -> None:
        """Says of some environments what was said of them before."""
        for name, array in self.data.items():
            if not name.startswith("_"):
                said = before.data[name]
                # Masks are said anew anyway.
                if said is not array and name != MASK:
                    self.data[name] = np.where(rows, said, array)

    def select(self, chosen: NDArray[np.bool_]) -> dict[str, Any]:
        """What some of the environments say, in the same form; the others are zeros, as Gymnasium leaves them."""
        selected = {}
        for name, array in self.data.items():
            if not name.startswith("_"):
                zero = np.array(None) if array.dtype == object else np.zeros((), array.dtype)
                selected[name] = np.where(chosen.reshape(-1, *(1,) * (array.ndim - 1)), array, zero)
                selected[f"_{name}"] = chosen.copy()
        return selected


class Info(Infos):
    """What a single environment has to say, in Gymnasium's form for one: a value for each name."""

    def __init__(self, blank: Mapping[str, Any]) -> None:
        super().__init__(1, dict(blank))

    def set(self, name: str, rows: NDArray[np.int64], values: NDArray[Any]) -> None:
        """Sets an entry, if the environment is among the rows."""
        if len(rows):
            self.data[name] = values[0]

    def set_rows(self, names: Sequence[str], rows: NDArray[np.int64], table: NDArray[Any]) -> None:
        """Sets entries, if the environment is among the rows."""
        if len(rows):
            self.data.update(zip(names, table[:, 0], strict=True))

    def set_all(self, name: str, values: NDArray[Any]) -> None:
        """Sets an entry."""
        self.data[name] = values[0]


def read_only(array: NDArray[Any]) -> NDArray[Any]:
    """What is handed out without a copy; a caller that wrote to it would change what an episode goes on from."""
    view = array.view()
    view.flags.writeable = False
    return view
