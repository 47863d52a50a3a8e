"""Networks in PyTorch: what is multiplied in a module, layer by layer.

The module is exported (``torch.export``), not run: shapes are followed through it. Needs PyTorch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from mapgym.errors import SpecificationError
from mapgym.errors.text import quoted
from mapgym.interop.collection import Collection, ImportedNetwork, require_sizes
from mapgym.interop.products import (
    GATES,
    Product,
    Shape,
    Transposed,
    Window,
    attention,
    broadcast_product,
    convolution,
    einsum,
    recurrent,
    transposed_convolution,
)
from mapgym.spec.catalog import Network


def network(module: Any, example_inputs: Sequence[Any], name: str = "") -> Network:
    """The network of a module.

    Args:
        module: a ``torch.nn.Module``.
        example_inputs: tensors such as it takes; only their shapes matter.
        name: of the network; the module's class if left out.

    Raises:
        SpecificationError: the module cannot be exported, has control flow, or multiplies nothing.
    """
    return read_module(module, example_inputs, name).network


def read_module(module: Any, example_inputs: Sequence[Any], name: str = "") -> ImportedNetwork:
    """As :func:`network`, with what was left out."""
    try:
        import torch
    except ImportError:
        raise SpecificationError("reading a module needs PyTorch; install it with: pip install 'mapgym[rl]'") from None
    title = name or type(module).__name__
    try:
        program = torch.export.export(module.eval(), tuple(example_inputs), strict=False)
    except Exception as error:
        reason = (str(error).strip().splitlines() or ["no reason given"])[0]
        raise SpecificationError(
            f"{title}: torch.export cannot follow the module ({reason}); give one without control flow that depends on "
            "data"
        ) from None
    collection = Collection(title)
    weights: dict[str, str] = dict(program.graph_signature.inputs_to_parameters)
    weights |= dict(program.graph_signature.inputs_to_buffers)
    for node in program.graph.nodes:
        if node.op == "call_function":
            _Call(node, weights, collection, title).collect()
    found = collection.finished("PyTorch")
    found.require_complete("give a module without them")
    return found


class _Call:
    """One operator of an exported program."""

    def __init__(self, node: Any, weights: dict[str, str], collection: Collection, title: str) -> None:
        self._node, self._weights, self._collection = node, weights, collection
        target = node.target
        self.operator = str(getattr(target, "_opname", getattr(target, "__name__", target)))
        self._overload = str(getattr(target, "_overloadname", ""))
        self.where = f"{title}: {self.operator} {quoted(node.name)}"

    def collect(self) -> None:
        """Adds the products of the operator, or counts it as left out."""
        if self.operator in ("cond", "while_loop", "scan", "map_impl"):
            raise SpecificationError(f"{self.where} is control flow, whose products depend on data; export without it")
        if self.operator in ("getitem", "_assert_tensor_metadata", "sym_size", "detach", "alias", "_guards_fn"):
            return
        reader = _OPERATORS.get(self.operator)
        if reader is None:
            namespace = str(getattr(self._node.target, "namespace", "aten"))
            is_unknown = namespace not in ("aten", "prims", "_operator")
            full = f"{namespace}.{self.operator}" if is_unknown else self.operator
            self._collection.leave_out(full, multiplies=is_unknown)
            return
        try:
            products = reader(self)
        except SpecificationError as error:
            raise SpecificationError(f"{self.where}: {error}") from None
        products = [product for product in products if require_sizes(product, self.where)]
        if not products:
            self._collection.leave_out(self.operator)
        for product in products:
            self._add(product)

    def _add(self, product: Product) -> None:
        if product.weights is not None:
            operand = self.argument(product.weights)
            name = getattr(operand, "name", "")
            if name in self._weights:
                self._collection.keep_weights(self._weights[name], math.prod(self.shape(operand)))
        self._collection.add(self._place(), product)

    def _place(self) -> str:
        """The submodule that calls the operator, or the operator's own name."""
        stack = self._node.meta.get("nn_module_stack") or {}
        places = [str(entry[0]) for entry in stack.values() if entry and entry[0]]
        return places[-1].removeprefix("L['self'].") if places else self._node.name

    def argument(self, k: int, otherwise: Any = None) -> Any:
        """A positional argument, or what stands for it."""
        return self._node.args[k] if k < len(self._node.args) else otherwise

    def option(self, name: str, k: int, otherwise: Any) -> Any:
        """An argument that may be given by name."""
        return self._node.kwargs.get(name, self.argument(k, otherwise))

    def shape(self, operand: Any) -> Shape:
        """Of a tensor."""
        return tuple(int(size) for size in operand.meta["val"].shape)

    def output(self) -> Shape:
        """Of the result."""
        value = self._node.meta["val"]
        return tuple(int(size) for size in (value[0] if isinstance(value, tuple | list) else value).shape)

    def convolution(self) -> list[Product]:
        """conv1d, conv2d, conv3d and convolution."""
        image, filters, out = self.shape(self.argument(0)), self.shape(self.argument(1)), self.output()
        axes = len(filters) - 2
        general = self.operator == "convolution"
        if general and self.argument(6):
            return self.transposed((3, 4, 7, 8, 5))
        strides, dilations = _each(self.argument(3, 1), axes), _each(self.argument(5, 1), axes)
        groups = self.argument(8 if general else 6, 1)
        windows = [Window(*each) for each in zip(out[2:], filters[2:], strides, dilations, strict=True)]
        batch = image[0] if len(image) == len(filters) else 1
        entry = convolution(windows, inputs=filters[1], outputs=filters[0] // groups, groups=groups, batch=batch)
        return [Product(entry, weights=1)]

    def transposed(self, places: tuple[int, int, int, int, int] = (3, 4, 5, 6, 7)) -> list[Product]:
        """conv_transpose1d to 3d; ``places``: of stride, padding, output padding, groups and dilation."""
        stride_at, pad_at, _, group_at, dilation_at = places
        image, filters, out = self.shape(self.argument(0)), self.shape(self.argument(1)), self.output()
        axes = len(filters) - 2
        strides, dilations = _each(self.argument(stride_at, 1), axes), _each(self.argument(dilation_at, 1), axes)
        pads, groups = _each(self.argument(pad_at, 0), axes), self.argument(group_at, 1)
        along = [Transposed(*each) for each in zip(out[2:], filters[2:], strides, dilations, pads, strict=True)]
        products = transposed_convolution(
            along, inputs=image[1] // groups, outputs=filters[1], groups=groups, batch=image[0]
        )
        return [Product(one.entry, one.repeats, one.part, 1) for one in products]

    def linear(self) -> list[Product]:
        """Linear: weights are transposed."""
        rows, weights = self.shape(self.argument(0)), self.shape(self.argument(1))
        return [Product(broadcast_product(rows, weights[::-1]), weights=1)]

    def matmul(self, first: int = 0) -> list[Product]:
        """matmul, mm, bmm; addmm and baddbmm, whose operands come later."""
        left, right = self.shape(self.argument(first)), self.shape(self.argument(first + 1))
        return [Product(broadcast_product(left, right), weights=first + 1)]

    def einsum(self) -> list[Product]:
        """Einsum."""
        return einsum(self.argument(0), [self.shape(operand) for operand in self.argument(1)])

    def attention(self) -> list[Product]:
        """scaled_dot_product_attention, with or without shared keys and values."""
        queries, keys, values = (self.shape(self.argument(k)) for k in range(3))
        heads = queries[-3] if len(queries) > 2 else 1
        kv_heads = keys[-3] if len(keys) > 2 else 1
        return attention(
            batch=math.prod(queries[:-3]),
            heads=heads,
            kv_heads=kv_heads,
            queries=queries[-2],
            keys=keys[-2],
            width=queries[-1],
            value_width=values[-1],
        )

    def recurrent(self) -> list[Product]:
        """lstm, gru, rnn_tanh, rnn_relu of a padded sequence."""
        if self._overload != "input":
            raise SpecificationError("is of packed sequences, whose lengths depend on data; give padded ones")
        kind = {"lstm": "LSTM", "gru": "GRU"}.get(self.operator, "RNN")
        sequence, parameters = self.shape(self.argument(0)), self.argument(2)
        layers, both = int(self.argument(4)), bool(self.argument(7))
        steps, batch = sequence[1::-1] if self.argument(8) else sequence[:2]
        directions = 2 if both else 1
        each = len(parameters) // (layers * directions)
        products = []
        for layer in range(layers):
            first = self.shape(parameters[layer * directions * each])
            hidden = first[0] // GATES[kind]
            state = self.shape(parameters[layer * directions * each + 1])[1]
            projected = state if state != hidden else 0
            found = recurrent(
                kind,
                steps=steps,
                batch=batch,
                inputs=first[1],
                hidden=hidden,
                directions=directions,
                projected=projected,
            )
            products += [Product(one.entry, one.repeats, f"layer {layer}: {one.part}") for one in found]
            for parameter in parameters[layer * directions * each : (layer + 1) * directions * each]:
                if len(self.shape(parameter)) == 2 and parameter.name in self._weights:
                    self._collection.keep_weights(self._weights[parameter.name], math.prod(self.shape(parameter)))
        return products


def _each(value: Any, axes: int) -> list[int]:
    """An argument for each axis."""
    listed = list(value) if isinstance(value, list | tuple) else [value]
    if any(not isinstance(entry, int) for entry in listed):
        return [0] * axes  # padding in words, which the sizes of the result tell
    return listed * axes if len(listed) == 1 else listed


_OPERATORS: dict[str, Callable[[_Call], list[Product]]] = {
    **dict.fromkeys(("conv1d", "conv2d", "conv3d", "convolution"), _Call.convolution),
    **dict.fromkeys(("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"), _Call.transposed),
    "linear": _Call.linear,
    **dict.fromkeys(("matmul", "mm", "bmm", "mv", "dot"), _Call.matmul),
    **dict.fromkeys(("addmm", "baddbmm", "addmv"), lambda call: call.matmul(1)),
    "einsum": _Call.einsum,
    "scaled_dot_product_attention": _Call.attention,
    **dict.fromkeys(("lstm", "gru", "rnn_tanh", "rnn_relu"), _Call.recurrent),
}
