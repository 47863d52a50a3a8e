"""Arithmetic in Timeloop's specifications: ``depth: 64 * 1024 // width``, ``width: word_bits * 4``.

Timeloop's Python front end evaluates such text as Python. Here it is parsed, and only numbers, names, arithmetic,
comparisons and some functions of mathematics are computed; everything else is refused, and nothing is ever run.
"""

from __future__ import annotations

import ast
import math
import operator
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from mapgym.errors import SpecificationError, suggest
from mapgym.errors.text import quoted

Number = int | float
"""What an expression gives; a comparison gives a bool, which is an int."""

_LONGEST = 1000
"""Characters of an expression."""
_DEEPEST = 50
"""Names that stand for expressions with names, in a row; and parts within parts of one expression."""
_MOST_BITS = 1024
"""Of a whole number: where float64 ends."""

_BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}
_UNARY: dict[type[ast.unaryop], Callable[[Any], Any]] = {
    ast.UAdd: operator.pos,
    ast.USub: operator.neg,
    ast.Not: operator.not_,
}
_COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "abs": abs,
    "bool": bool,
    "ceil": math.ceil,
    "exp": math.exp,
    "float": float,
    "floor": math.floor,
    "int": int,
    "isqrt": math.isqrt,
    "log": math.log,
    "log10": math.log10,
    "log2": math.log2,
    "max": max,
    "min": min,
    "pow": lambda base, exponent: _power(base, exponent),
    "round": round,
    "sqrt": math.sqrt,
    "trunc": math.trunc,
}
_CONSTANTS = {"pi": math.pi, "e": math.e, "inf": math.inf, "true": True, "false": False}
_HYPHENATED = re.compile(r"[A-Za-z_]\w*(?:-[A-Za-z_]\w*)+")


class Names(Mapping[str, object]):
    """What names stand for in expressions: attributes of a component, then those of its surroundings, then variables.

    Hyphens and underscores in names are one. Values may be expressions themselves, which are computed when asked for.
    """

    def __init__(self, own: Mapping[str, object] | None = None, outer: Names | None = None) -> None:
        self._own = {plain_name(name): value for name, value in (own or {}).items()}
        self._outer = outer

    def __getitem__(self, name: str) -> object:
        return self.lookup(name)[0]

    def __iter__(self) -> Iterator[str]:
        yield from dict.fromkeys((*self._own, *(self._outer or ())))

    def __len__(self) -> int:
        return len(list(iter(self)))

    def lookup(self, name: str) -> tuple[object, Names]:
        """The value of a name, and the names that an expression in it may use.

        A value that names itself (``depth: depth * 2``) means what the name stands for outside.

        Raises:
            KeyError: nothing has the name.
        """
        if name in self._own:
            return self._own[name], self._without(name)
        if self._outer is None:
            raise KeyError(name)
        return self._outer.lookup(name)

    def _without(self, name: str) -> Names:
        value = self._own[name]
        if not isinstance(value, str) or self._outer is None or not re.search(rf"\b{re.escape(name)}\b", value):
            return self
        return Names({other: each for other, each in self._own.items() if other != name}, self._outer)


def plain_name(name: object) -> str:
    """A name with underscores in place of hyphens: attributes are written either way."""
    return str(name).replace("-", "_")


def evaluate(value: object, names: Mapping[str, object], where: str) -> Number | str:
    """The number that an expression stands for, or the text that a name stands for.

    Args:
        value: a number, or text such as ``"64 * 1024 // width"``.
        names: what names stand for; values that are text are expressions themselves, or else text.
        where: file and key, for messages.

    Raises:
        SpecificationError: it is no arithmetic, uses a name that nothing has, or gives nothing that can be computed
            with.
    """
    return _Evaluation(names, where).value(value, 0)


def evaluate_number(value: object, names: Mapping[str, object], where: str) -> Number:
    """Like :func:`evaluate`, for what must be a number.

    Raises:
        SpecificationError: as there, or it is text.
    """
    result = evaluate(value, names, where)
    if isinstance(result, str):
        raise SpecificationError(
            f"{where} is {quoted(value)}; give a number or an expression of numbers and attributes"
        )
    return result


class _Evaluation:
    """Computes one expression."""

    def __init__(self, names: Mapping[str, object], where: str) -> None:
        self._names = names
        self._where = where
        self._text: object = ""

    def value(self, value: object, depth: int) -> Number | str:
        """The number of a value or an expression."""
        self._text = value
        if isinstance(value, int | float):
            return self._checked(value)
        if not isinstance(value, str):
            raise self._wrong("give a number or an expression of numbers and attributes")
        if len(value) > _LONGEST:
            raise self._wrong(f"give at most {_LONGEST} characters")
        if depth > _DEEPEST:
            raise self._wrong("its names stand for each other in a circle; give one of them a number")
        text = _HYPHENATED.sub(lambda found: self._joined(found[0]), value.strip())
        try:
            tree = ast.parse(text, mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            raise self._wrong("that is no arithmetic; give a number or an expression such as 64*1024") from None
        try:
            return self._compute(tree, depth + 1)
        except (ArithmeticError, ValueError, TypeError) as error:
            self._text = value
            if isinstance(error, SpecificationError):
                raise
            raise self._wrong(f"that cannot be computed ({error})") from None

    def _is_word(self, value: str) -> bool:
        """Whether text is a word, such as the name of a technology, rather than an expression."""
        try:
            tree = ast.parse(value.strip(), mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return re.fullmatch(r"[\w.\- /]+", value) is not None
        return isinstance(tree, ast.Name) and tree.id not in self._names and tree.id.lower() not in _CONSTANTS

    def _joined(self, name: str) -> str:
        """A hyphenated name as one word if something is called so, else a subtraction."""
        return plain_name(name) if plain_name(name) in self._names else name

    def _compute(self, node: ast.expr, depth: int) -> Any:
        if depth > 2 * _DEEPEST:
            raise self._wrong("it is nested too deeply; write it in simpler steps")
        if isinstance(node, ast.Constant) and isinstance(node.value, int | float | str):
            return node.value if isinstance(node.value, str) else self._checked(node.value)
        if isinstance(node, ast.Name):
            return self._name(node.id, depth)
        if isinstance(node, ast.BinOp) and type(node.op) in _BINARY:
            left, right = self._compute(node.left, depth + 1), self._compute(node.right, depth + 1)
            self._require_numbers(left, right)
            function = _power if isinstance(node.op, ast.Pow) else _BINARY[type(node.op)]
            return self._checked(function(left, right))
        if isinstance(node, ast.UnaryOp) and type(node.op) in _UNARY:
            return _UNARY[type(node.op)](self._compute(node.operand, depth + 1))
        if isinstance(node, ast.BoolOp):
            values = [self._compute(each, depth + 1) for each in node.values]
            return all(values) if isinstance(node.op, ast.And) else any(values)
        if isinstance(node, ast.Compare) and all(type(op) in _COMPARISONS for op in node.ops):
            values = [self._compute(each, depth + 1) for each in (node.left, *node.comparators)]
            pairs = zip(node.ops, values, values[1:], strict=False)
            return all(_COMPARISONS[type(op)](left, right) for op, left, right in pairs)
        if isinstance(node, ast.IfExp):
            return self._compute(node.body if self._compute(node.test, depth + 1) else node.orelse, depth + 1)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords:
            return self._call(node.func.id, [self._compute(each, depth + 1) for each in node.args])
        kind = type(node).__name__
        raise self._wrong(f"only arithmetic is computed, and {kind} is none; give a number in its place")

    def _name(self, name: str, depth: int) -> Any:
        try:
            if isinstance(self._names, Names):
                value, inside = self._names.lookup(name)
            else:
                value, inside = self._names[name], self._names
        except KeyError:
            if name.lower() in _CONSTANTS:
                return _CONSTANTS[name.lower()]
            known = [each for each in self._names if isinstance(each, str)]
            raise self._wrong(f"nothing is called {quoted(name)}; {suggest(name, known)}") from None
        if isinstance(value, str):
            text, outside = self._text, self._names
            self._names = inside
            try:
                return value if self._is_word(value) else self.value(value, depth)
            finally:
                self._text, self._names = text, outside
        if not isinstance(value, int | float):
            raise self._wrong(f"{quoted(name)} is {quoted(value)}, which is no number; give one")
        return self._checked(value)

    def _call(self, name: str, arguments: list[Any]) -> Any:
        if name not in _FUNCTIONS:
            raise self._wrong(f"there is no function {quoted(name)}; {suggest(name, _FUNCTIONS)}")
        self._require_numbers(*arguments)
        return self._checked(_FUNCTIONS[name](*arguments))

    def _require_numbers(self, *values: object) -> None:
        for value in values:
            if not isinstance(value, int | float):
                raise self._wrong(f"{quoted(value)} is text, with which nothing can be computed; give a number")

    def _checked(self, value: Number) -> Number:
        if isinstance(value, complex) or (isinstance(value, int) and value.bit_length() > _MOST_BITS):
            raise self._wrong("that is too large a number; give a smaller one")
        if isinstance(value, float) and math.isnan(value):
            raise self._wrong("that is not a number; give one")
        return value

    def _wrong(self, remedy: str) -> SpecificationError:
        return SpecificationError(f"{self._where} is {quoted(self._text)}: {remedy}")


def _power(base: Number, exponent: Number) -> Number:
    """A power, unless it is so large that computing it would take long."""
    is_whole = isinstance(base, int) and isinstance(exponent, int)
    if is_whole and exponent * abs(base).bit_length() > 2 * _MOST_BITS:
        raise OverflowError("the power is too large")
    result = base**exponent
    if isinstance(result, complex):
        raise ArithmeticError("the root of a negative number")
    return result
