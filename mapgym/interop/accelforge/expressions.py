"""AccelForge's expressions: arithmetic that may ask about tensors, sets of tensors, and latencies of components.

Each is parsed and computed; nothing is ever run as code.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass

from mapgym.errors import SpecificationError, suggest
from mapgym.errors.text import quoted
from mapgym.interop.imported import INPUTS, OUTPUTS, TENSORS, WEIGHTS
from mapgym.timeloop.reading.expressions import Names, Number, evaluate_number

Tensors = frozenset[str]

SETS: dict[str, Tensors] = {
    "All": frozenset(TENSORS),
    "Tensors": frozenset(TENSORS),
    "Nothing": frozenset(),
    "Inputs": frozenset((INPUTS, WEIGHTS)),
    "Outputs": frozenset((OUTPUTS,)),
    "Intermediates": frozenset(),
    "Shared": frozenset(),
    "input": frozenset((INPUTS,)),
    "weight": frozenset((WEIGHTS,)),
    "output": frozenset((OUTPUTS,)),
}
"""Sets of tensors, in a layer by itself: no other layer makes its inputs or takes its outputs."""

_LENGTH = re.compile(r"\blen\(\s*(\w+)\s*\)")
_WIDTH = re.compile(r"\b(\w+)\.bits_per_value\b")
_LONGEST = 1000
_MOST_BITS = 1000


def compute(value: object, names: Names, word_bits: int, where: str) -> Number:
    """The number of an expression such as ``weight.bits_per_value if weight else 1``.

    Args:
        value: a number or text.
        names: what names stand for, but for sets of tensors.
        word_bits: of a value of any tensor.
        where: file and key, for messages.

    Raises:
        SpecificationError: it is no arithmetic, or uses a name that nothing has.
    """
    if not isinstance(value, str):
        return _small(evaluate_number(value, names, where), where)
    text = _LENGTH.sub(lambda found: str(len(SETS[found[1]])) if found[1] in SETS else found[0], value)
    text = _WIDTH.sub(lambda found: f"{found[1]}_bits_per_value" if found[1] in SETS else found[0], text)
    # A name is true where the set that it stands for is not empty.
    known: dict[str, object] = {name: int(bool(tensors)) for name, tensors in SETS.items()}
    known |= {f"{name}_bits_per_value": word_bits for name, tensors in SETS.items() if len(tensors) == 1}
    return _small(evaluate_number(text, Names(known, names), where), where)


def _small(value: Number, where: str) -> Number:
    """A number that float64 holds."""
    if isinstance(value, int) and value.bit_length() > _MOST_BITS:
        raise SpecificationError(f"{where} is too large a number; give a smaller one")
    return value


def tensors_of(text: object, memories: Mapping[str, Tensors], where: str) -> Tensors:
    """The tensors of a set expression such as ``input | output`` or ``~MainMemory``.

    Args:
        text: the expression.
        memories: name of a memory further out -> what it holds.
        where: file and key, for messages.

    Raises:
        SpecificationError: it is something else.
    """
    known = {**SETS, **memories}

    def walk(node: ast.expr) -> Tensors:
        if isinstance(node, ast.Attribute) and node.attr == "tensors":
            return walk(node.value)
        if isinstance(node, ast.Name):
            if node.id not in known:
                raise SpecificationError(f"{where} names {quoted(node.id)}; {suggest(node.id, known)}")
            return known[node.id]
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Invert):
            return SETS["All"] - walk(node.operand)
        if isinstance(node, ast.BinOp):
            left, right = walk(node.left), walk(node.right)
            for kind, result in (
                (ast.BitOr, left | right),
                (ast.BitAnd, left & right),
                (ast.Sub, left - right),
                (ast.BitXor, left ^ right),
            ):
                if isinstance(node.op, kind):
                    return result
        raise SpecificationError(
            f"{where} is {quoted(text)}: that is no set of tensors; give such as 'input | output', with |, &, - and ~"
        )

    try:
        return walk(_parsed(text, where))
    except RecursionError:
        raise SpecificationError(f"{where} is {quoted(text)}, which is nested too deeply; write it shorter") from None


@dataclass(frozen=True)
class Latency:
    """How the time of a component follows from its actions.

    Attributes:
        is_sum: whether they come one after the other; else each kind has a port of its own.
        by_throughput: whether each action takes the time that its throughput says.
        seconds: what else an action takes, a factor.
    """

    is_sum: bool
    by_throughput: bool
    seconds: float


USUAL_LATENCY = Latency(is_sum=True, by_throughput=True, seconds=1.0)


def latency_of(value: object, names: Names, where: str) -> Latency:
    """Reads ``total_latency``: a sum or a maximum over actions, times or divided by constants.

    Raises:
        SpecificationError: it is something else, which no bandwidth expresses.
    """
    if value is None:
        return USUAL_LATENCY
    remedy = (
        "a latency that is not constant for each action cannot be expressed; give such as "
        "'max(a.n_calls / a.throughput for a in actions)'"
    )
    wrong = SpecificationError(f"{where} is {quoted(value)}: {remedy}")

    def constant(node: ast.expr) -> float:
        return float(_small(evaluate_number(ast.unparse(node), names, where), where))

    def walk(node: ast.expr, seconds: float) -> Latency:
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
            return walk(node.left, seconds / constant(node.right))
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
            return walk(node.left, seconds * constant(node.right))
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("sum", "max")):
            raise wrong
        if len(node.args) != 1 or node.keywords or not isinstance(node.args[0], ast.GeneratorExp):
            raise wrong
        each = node.args[0]
        match each.generators:
            case [ast.comprehension(target=ast.Name(id=name), iter=ast.Name(id="actions"), ifs=[], is_async=0)]:
                form = ast.unparse(each.elt)
            case _:
                raise wrong
        if form not in (f"{name}.n_calls", f"{name}.n_calls / {name}.throughput"):
            raise wrong
        return Latency(node.func.id == "sum", form.endswith("throughput"), seconds)

    if isinstance(value, int | float) and value == 0:
        return Latency(is_sum=False, by_throughput=False, seconds=0.0)
    try:
        return walk(_parsed(value, where), 1.0)
    except (ZeroDivisionError, RecursionError):
        raise wrong from None


def _parsed(text: object, where: str) -> ast.expr:
    if not isinstance(text, str) or len(text) > _LONGEST:
        raise SpecificationError(f"{where} is {quoted(text)}; give an expression of at most {_LONGEST} characters")
    try:
        return ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise SpecificationError(f"{where} is {quoted(text)}, which is no expression; mend it") from None
