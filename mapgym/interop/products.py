"""The multiply-accumulates of the operators of neural networks, as layers in the form of a network's file.

Frameworks differ in what they call their operators and in where these keep their figures, not in what is multiplied.
Here is what is multiplied, of plain numbers. Products with the zeros of a padding count, as everywhere in mapgym.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mapgym.errors import SpecificationError
from mapgym.errors.text import quoted

Shape = tuple[int, ...]

_SPATIAL = (("P", "R"), ("Q", "S"))
_SPATIAL_3D = (("D", "T"), *_SPATIAL)
_MOST_PHASES = 4096


@dataclass(frozen=True)
class Product:
    """Equal products that an operator consists of.

    Attributes:
        entry: the layer, with the keys of :meth:`mapgym.spec.workload.Workload.from_dict`.
        repeats: how many such products there are.
        part: which of the operator's products they are; empty if it has no others.
        weights: which operand of the operator its Weights are, if they are one.
    """

    entry: Mapping[str, Any]
    repeats: int = 1
    part: str = ""
    weights: int | None = None


@dataclass(frozen=True)
class Window:
    """How the window of a convolution slides along one axis.

    Attributes:
        outputs: positions of the window.
        taps: words of the filter.
        stride: steps from one position to the next.
        dilation: steps from one word of the filter to the next.
    """

    outputs: int
    taps: int
    stride: int = 1
    dilation: int = 1


def convolution(
    windows: Sequence[Window], *, inputs: int, outputs: int, groups: int = 1, batch: int = 1
) -> Mapping[str, Any]:
    """A convolution over one, two or three axes; a row or column of one word is added to what has less than two.

    Args:
        windows: of each axis: (depth, rows, columns), (rows, columns) or (rows,).
        inputs: input channels of a group.
        outputs: output channels of a group.
        groups: parts of the channels that have nothing to do with each other.
        batch: images.

    Raises:
        SpecificationError: more axes.
    """
    if not 1 <= len(windows) <= 3:
        raise SpecificationError(f"a convolution over {len(windows)} axes; only those over one, two or three are known")
    if len(windows) == 3:
        return _grouped_convolution(windows, inputs, outputs, groups, batch)
    rows, columns = (*windows, Window(1, 1))[:2]
    if groups > 1 and not inputs == outputs == 1:
        return _grouped_convolution((rows, columns), inputs, outputs, groups, batch)
    channels = {"C": inputs, "M": outputs} if groups == 1 else {"C": groups}
    entry: dict[str, Any] = {"type": "conv2d" if groups == 1 else "depthwise_conv2d", **channels}
    entry.update(P=rows.outputs, Q=columns.outputs, R=rows.taps, S=columns.taps)
    for key, pair in (("stride", (rows.stride, columns.stride)), ("dilation", (rows.dilation, columns.dilation))):
        if pair != (1, 1):
            entry[key] = pair[0] if pair[0] == pair[1] else list(pair)
    return {**entry, "N": batch} if batch != 1 else entry


def _grouped_convolution(
    windows: Sequence[Window], inputs: int, outputs: int, groups: int, batch: int
) -> Mapping[str, Any]:
    """Outputs[G,N,...,M] += Weights[G,C,...,M] * Inputs[G,C,N,...], without dims that the operator does not have."""
    spatial = _SPATIAL_3D[-len(windows) :]
    channels = [(dim, bound) for dim, bound in (("G", groups), ("C", inputs), ("M", outputs)) if bound > 1]
    present = [dim for dim, _ in channels]
    dims = {"N": batch, **dict(channels)}
    ranks, positions, filters = [], [], []
    for (position, tap), window in zip(spatial, windows, strict=True):
        dims |= {position: window.outputs, tap: window.taps}
        ranks.append(f"{_term(window.stride, position)} + {_term(window.dilation, tap)}")
        positions.append(position)
        filters.append(tap)
    tensors: dict[str, Any] = {
        "Weights": {"projection": [dim for dim in "GC" if dim in present] + filters + [d for d in "M" if d in present]},
        "Inputs": {"projection": [dim for dim in "GC" if dim in present] + ["N", *ranks]},
        "Outputs": {
            "projection": [dim for dim in "G" if dim in present] + ["N", *positions] + [d for d in "M" if d in present],
            "output": True,
        },
    }
    return {"type": "einsum", "dims": dims, "tensors": tensors}


def _term(coefficient: int, dim: str) -> str:
    return dim if coefficient == 1 else f"{coefficient}*{dim}"


@dataclass(frozen=True)
class Transposed:
    """One axis of a transposed convolution: tap r of input h goes to output stride * h + dilation * r - pad.

    Attributes:
        outputs: words of the result.
        taps: words of the filter.
        stride: outputs from one input to the next.
        dilation: outputs from one tap to the next.
        pad: outputs that are cut off before the first.
    """

    outputs: int
    taps: int
    stride: int = 1
    dilation: int = 1
    pad: int = 0

    def phases(self) -> Counter[Window]:
        """The ordinary convolutions that make the outputs, with how many of each there are.

        Output p gets the taps r with dilation * r = p + pad (mod stride), from consecutive inputs. Outputs of the same
        remainder therefore are one convolution of stride 1; its dilation is dilation / gcd(stride, dilation).

        Raises:
            SpecificationError: there are more of them than any network has.
        """
        shared = math.gcd(self.stride, self.dilation)
        step = self.stride // shared
        if min(step, self.taps) > _MOST_PHASES:
            raise SpecificationError(f"a transposed convolution of stride {self.stride}; strides to 4,096 are known")
        found: Counter[Window] = Counter()
        for first in range(min(step, self.taps)):
            remainder = (self.dilation * first - self.pad) % self.stride
            outputs = max(0, -((remainder - self.outputs) // self.stride))
            if outputs:
                found[Window(outputs, -((first - self.taps) // step), 1, self.dilation // shared)] += 1
        return found


def transposed_convolution(
    axes: Sequence[Transposed], *, inputs: int, outputs: int, groups: int = 1, batch: int = 1
) -> list[Product]:
    """A transposed convolution as the ordinary convolutions that make its outputs, see :meth:`Transposed.phases`.

    No product with one of the zeros between the inputs is among them: there are as many multiply-accumulates as inputs
    times taps, but for the edges.

    Args:
        axes: as the windows of :func:`convolution`.
        inputs: input channels of a group.
        outputs: output channels of a group.
        groups: parts of the channels that have nothing to do with each other.
        batch: images.
    """
    along = [axis.phases().items() for axis in axes]
    if math.prod(map(len, along)) > _MOST_PHASES:
        raise SpecificationError(
            "a transposed convolution with more than 4,096 different phases; smaller ones are known"
        )
    products = []
    for phases in itertools.product(*along):
        entry = convolution(
            [window for window, _ in phases], inputs=inputs, outputs=outputs, groups=groups, batch=batch
        )
        taps = "x".join(str(window.taps) for window, _ in phases)
        products.append(Product(entry, math.prod(count for _, count in phases), f"{taps} taps"))
    return products if len(products) > 1 else [Product(one.entry, one.repeats) for one in products]


def product(rows: int, inner: int, columns: int, batch: int = 1) -> Mapping[str, Any]:
    """Outputs[B,M,N] += Inputs[B,M,K] * Weights[B,K,N]: a product of matrices; with a batch, each has its own Weights.

    Args:
        rows, inner, columns: M, K and N; where all of a batch has the same Weights, its Inputs are rows.
        batch: B.
    """
    entry = {"type": "matmul", "M": rows, "K": inner, "N": columns}
    return {**entry, "B": batch} if batch != 1 else {**entry, "shared_weights": True}


def broadcast_product(left: Shape, right: Shape, *, weights_left: bool = False) -> Mapping[str, Any]:
    """``left @ right`` as NumPy multiplies: the last two axes are matrices, those before them are batches or repeated.

    An axis that only one side has makes more rows or columns of it; one that both have is a batch.

    Args:
        left, right: shapes of at least one axis.
        weights_left: the left side is what stays the same from run to run, so that it is called Weights.

    Raises:
        SpecificationError: they do not fit.
    """
    a, b = ((1, *left) if len(left) == 1 else left), ((*right, 1) if len(right) == 1 else right)
    length = max(len(a), len(b))
    batches = list(zip(_padded(a, length)[:-2], _padded(b, length)[:-2], strict=True))
    if not left or not right or a[-1] != b[-2] or any(m != n and 1 not in (m, n) for m, n in batches):
        raise SpecificationError(f"a product of the shapes {quoted(left)} and {quoted(right)}, which do not fit")
    rows = a[-2] * math.prod(m for m, n in batches if n == 1)
    columns = b[-1] * math.prod(n for m, n in batches if m == 1)
    batch = math.prod(m for m, n in batches if m == n)
    return product(*((columns, a[-1], rows) if weights_left else (rows, a[-1], columns)), batch)


def _padded(shape: Shape, length: int) -> Shape:
    return (1,) * (length - len(shape)) + shape


def attention(
    *, batch: int, heads: int, kv_heads: int, queries: int, keys: int, width: int, value_width: int
) -> list[Product]:
    """The two products of attention; query heads that share keys and values are rows of one product.

    Masks are not made use of: all queries meet all keys.

    Args:
        batch: sequences.
        heads: query heads.
        kv_heads: heads of keys and values.
        queries, keys: their number.
        width: of a head of queries and keys.
        value_width: of a head of values.

    Raises:
        SpecificationError: the query heads cannot be shared out.
    """
    if kv_heads < 1 or heads % kv_heads:
        raise SpecificationError(
            f"attention of {heads} query heads over {kv_heads} heads of keys, which do not divide them"
        )
    rows = heads // kv_heads * queries
    return [
        Product(product(rows, width, keys, batch * kv_heads), part="scores"),
        Product(product(rows, keys, value_width, batch * kv_heads), part="context"),
    ]


GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


def recurrent(
    kind: str, *, steps: int, batch: int, inputs: int, hidden: int, directions: int = 1, projected: int = 0
) -> list[Product]:
    """A recurrent layer: one product of all inputs, and one of the state for each step.

    Args:
        kind: one of ``GATES``.
        steps: of the sequence.
        batch: sequences.
        inputs: words of an input.
        hidden: words of the state.
        directions: 1, or 2 for forth and back.
        projected: words that the state is brought to after each step; 0 if it is not.
    """
    columns = GATES[kind] * hidden
    products = [
        Product(product(steps * batch, inputs, columns), directions, "input"),
        Product(product(batch, projected or hidden, columns), steps * directions, "recurrent"),
    ]
    if projected:
        products.append(Product(product(batch, hidden, projected), steps * directions, "projection"))
    return products


def einsum(equation: str, shapes: Sequence[Shape], constant: Sequence[bool] = ()) -> list[Product]:
    """The products of an einsum, from left to right where there are more than two operands.

    Args:
        equation: such as "bqd,bkd->bqk"; spaces are ignored, an ellipsis stands for the axes that are not named.
        shapes: of the operands.
        constant: for each operand whether it stays the same from run to run, so that it is called Weights.

    Returns:
        Nothing if nothing is multiplied and added up, as in transpositions, sums, and scaling by one operand.

    Raises:
        SpecificationError: the equation does not fit the shapes.
    """
    terms, result, sizes = _parse(equation, shapes)
    fixed = list(constant) or [False] * len(terms)
    products: list[Product] = []
    held, held_fixed = terms[0], fixed[0]
    for number, term in enumerate(terms[1:], start=1):
        later = {label for other in terms[number + 1 :] for label in other} | set(result)
        both = list(dict.fromkeys((*held, *term)))
        kept = result if number + 1 == len(terms) else [label for label in both if label in later]
        if set(kept) != set(both) or not (set(held) <= set(term) or set(term) <= set(held)):
            swapped = held_fixed and not fixed[number]
            entry = _pair(term, held, kept, sizes) if swapped else _pair(held, term, kept, sizes)
            # What has been multiplied already is no operand of the operator.
            weights = (0 if number == 1 else None) if swapped else number
            products.append(Product(entry, weights=weights))
        held, held_fixed = kept, held_fixed and fixed[number]
    if len(products) > 1:
        return [replace(one, part=f"product {number}") for number, one in enumerate(products, start=1)]
    return products


def _pair(
    left: Sequence[str], right: Sequence[str], result: Sequence[str], sizes: Mapping[str, int]
) -> Mapping[str, Any]:
    """Two operands of an einsum: a product of matrices if each label is in two of the three tensors or in all."""
    labels = list(dict.fromkeys((*left, *right)))

    def bound(*wanted: bool) -> int:
        return math.prod(sizes[label] for label in labels if (label in left, label in right, label in result) == wanted)

    if all((label in left) + (label in right) + (label in result) >= 2 for label in labels):
        rows, inner, columns = bound(True, False, True), bound(True, True, False), bound(False, True, True)
        return product(rows, inner, columns, bound(True, True, True))
    names = dict(zip(labels, _names(), strict=False))
    dims = {names[label]: sizes[label] for label in labels}
    if not (left and right and result):
        # A tensor of one word has an axis of one word.
        dims[_ONE_WORD] = 1
    tensors: dict[str, Any] = {
        name: {"projection": [names[label] for label in operand] or [_ONE_WORD]}
        for name, operand in (("Weights", right), ("Inputs", left), ("Outputs", result))
    }
    tensors["Outputs"]["output"] = True
    return {"type": "einsum", "dims": dims, "tensors": tensors}


_ONE_WORD = "One"


def _names() -> Iterator[str]:
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    yield from letters
    yield from (first + second for first in letters for second in letters)


def _parse(equation: str, shapes: Sequence[Shape]) -> tuple[list[list[str]], list[str], dict[str, int]]:
    """Labels of the operands and of the result, each once, and their sizes.

    What an operand repeats, an axis of one word where others have several, is left out of it. A label that an operand
    has twice is its diagonal.
    """
    where = f"the einsum {quoted(equation)} of the shapes {quoted(list(shapes))}"
    left, arrow, right = equation.replace(" ", "").partition("->")
    operands = left.split(",")
    for side in (*operands, right):
        named = side.replace("...", "", 1)
        if named and not (named.isascii() and named.isalpha()):
            raise SpecificationError(f"{where} cannot be read")
    if len(operands) != len(shapes):
        raise SpecificationError(f"{where} has {len(operands)} operands of {len(shapes)}")
    unnamed = [len(shape) - len(side.replace("...", "")) for side, shape in zip(operands, shapes, strict=True)]
    if any(number < 0 or (number and "..." not in side) for side, number in zip(operands, unnamed, strict=True)):
        raise SpecificationError(f"{where} names more or fewer axes than there are")
    labels = [_labels(side, number) for side, number in zip(operands, unnamed, strict=True)]
    sizes: dict[str, int] = {}
    for axes, shape in zip(labels, shapes, strict=True):
        for label, size in zip(axes, shape, strict=True):
            known = sizes.get(label, 1)
            if size != known and 1 not in (size, known):
                raise SpecificationError(f"{where} has the sizes {known} and {size} for {quoted(label)}")
            sizes[label] = known if size == 1 else size
    terms = [
        list(dict.fromkeys(label for label, size in zip(axes, shape, strict=True) if size == sizes[label]))
        for axes, shape in zip(labels, shapes, strict=True)
    ]
    if arrow:
        result = _labels(right, max(unnamed))
    else:
        every = [label for axes in labels for label in axes]
        result = _labels("...", max(unnamed)) + sorted(
            label for label in set(every) if every.count(label) == 1 and len(label) == 1
        )
    if len(set(result)) < len(result) or not set(result) <= sizes.keys():
        raise SpecificationError(f"{where} has an axis twice in its result, or one that no operand has")
    return terms, result, sizes


def _labels(side: str, unnamed: int) -> list[str]:
    """The labels of an operand; axes behind an ellipsis are numbered from the last one, as they are matched."""
    before, dots, after = side.partition("...")
    return [*before, *(f"...{number}" for number in range(unnamed - 1, -1, -1) if dots), *after]
