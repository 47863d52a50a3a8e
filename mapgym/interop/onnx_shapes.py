"""ONNX files as graphs whose shapes are all known.

Needs the library ``onnx`` (extra ``import``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mapgym.errors import SpecificationError, suggest
from mapgym.errors.text import quoted
from mapgym.interop.products import Shape

_MOST_BYTES = 2**31
"""Of a file: protocol buffers end there, and larger models keep their weights in other files."""
_SMALL = 4096
"""Words of a constant that can matter to shapes."""
_ROUNDS = 12
_SHAPE_ARITHMETIC = {
    *("Shape", "Size", "Gather", "Concat", "Unsqueeze", "Squeeze", "Slice", "Cast", "Mul", "Add", "Sub", "Div", "Mod"),
    *("Floor", "Ceil", "Min", "Max", "Reshape", "Range", "ConstantOfShape", "Where", "Equal", "Identity", "ReduceProd"),
    *("Neg", "Expand", "Transpose", "Less", "Greater", "Not", "Abs", "Tile"),
}


@dataclass
class Graph:
    """A model.

    Attributes:
        file: for messages.
        nodes: its operators, in order.
        shapes: tensor -> axes; None where an axis is not known.
        constants: names of tensors that stay the same from run to run.
        weights: initializers, by name.
    """

    file: str
    nodes: list[Any]
    shapes: dict[str, Shape | None]
    constants: set[str]
    weights: dict[str, Any]
    _densities: dict[str, float | None] = field(default_factory=dict)

    def shape(self, name: str, where: str) -> Shape:
        """Of a tensor.

        Raises:
            SpecificationError: it is not known.
        """
        shape = self.shapes.get(name)
        if shape is None:
            raise SpecificationError(
                f"{where}: the shape of {quoted(name)} cannot be inferred; export the model with fixed shapes, or give "
                "the sizes that it leaves open with --dim NAME=SIZE"
            )
        return shape

    def is_constant(self, node: Any) -> bool:
        """Whether an operator computes nothing but constants."""
        inputs = [name for name in node.input if name]
        return bool(inputs) and all(name in self.constants for name in inputs)

    def density(self, name: str) -> float | None:
        """Share of non-zero words of weights; None for those that are computed or lie in another file."""
        if name not in self._densities:
            self._densities[name] = _measured(self.weights.get(name))
        return self._densities[name]

    @staticmethod
    def attributes(node: Any) -> dict[str, Any]:
        """Attributes of an operator, by name."""
        import onnx

        return {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}


def read_graph(path: Path, dims: Mapping[str, int]) -> Graph:
    """The model in a file; see :func:`mapgym.interop.onnx.read_onnx`."""
    try:
        import onnx
        from onnx import inliner
    except ImportError:
        raise SpecificationError(
            f"{path}: reading ONNX needs the library onnx; install it with: pip install 'mapgym[import]'"
        ) from None
    model = _load(path)
    try:
        if model.functions:
            model = inliner.inline_local_functions(model)
        weights = {entry.name: entry for entry in model.graph.initializer}
        _fix_dims(model, dims, set(weights), str(path))
        slim = _without_weights(model)
        shapes = _infer(slim)
        for _ in range(_ROUNDS):
            if not _fold(slim, shapes):
                break
            shapes = _infer(slim)
    except SpecificationError:
        raise
    except (onnx.shape_inference.InferenceError, RuntimeError, ValueError, TypeError) as error:
        reason = str(error).strip().splitlines()
        raise SpecificationError(
            f"{path}: is no valid ONNX model ({reason[0] if reason else 'unknown reason'}); export it again"
        ) from None
    constants = set(weights)
    for node in model.graph.node:
        inputs = [name for name in node.input if name]
        if node.op_type == "Constant" or (inputs and all(name in constants for name in inputs)):
            constants |= set(node.output)
    return Graph(str(path), list(model.graph.node), shapes, constants, weights)


def _load(path: Path) -> Any:
    import onnx
    from google.protobuf.message import DecodeError

    try:
        size = path.stat().st_size
        if size > _MOST_BYTES:
            raise SpecificationError(f"{path}: is larger than 2 GiB; export the model with its weights in other files")
        # What lies in other files is not looked for.
        model = onnx.load(str(path), load_external_data=False)
    except FileNotFoundError:
        raise SpecificationError(f"{path}: there is no such file; check the path") from None
    except OSError as error:
        raise SpecificationError(f"{path}: cannot be read ({error.strerror}); check the path") from None
    except (DecodeError, ValueError, RuntimeError):
        raise SpecificationError(f"{path}: is no ONNX model, or is cut off; export it again") from None
    if not model.ir_version or not model.graph.node:
        raise SpecificationError(f"{path}: is no ONNX model, or an empty one; export it again")
    return model


def _fix_dims(model: Any, dims: Mapping[str, int], weights: set[str], file: str) -> None:
    """Gives the axes of inputs that a model leaves open the sizes that the user has chosen."""
    open_names: dict[str, None] = {}
    for entry in model.graph.input:
        if entry.name in weights or not entry.type.HasField("tensor_type"):
            continue
        for axis, dim in enumerate(entry.type.tensor_type.shape.dim):
            if dim.HasField("dim_value") and dim.dim_value > 0:
                continue
            name = dim.dim_param or f"{entry.name}.{axis}"
            open_names[name] = None
            if name in dims:
                dim.ClearField("dim_param")
                dim.dim_value = dims[name]
    for name in dims:
        if name not in open_names:
            known = suggest(name, open_names) if open_names else "it leaves no size open"
            raise SpecificationError(f"{file}: --dim: there is no size {quoted(name)} in the model; {known}")
    missing = [name for name in open_names if name not in dims]
    if missing:
        example = " ".join(f"--dim {name}=1" for name in missing[:4])
        raise SpecificationError(
            f"{file}: leaves the sizes {quoted(', '.join(missing[:8]))} open; give each, such as {example}"
        )


def _without_weights(model: Any) -> Any:
    """A copy in which large constants have a shape but no content, so that shapes are inferred fast."""
    import onnx

    slim = onnx.ModelProto()
    slim.CopyFrom(model)
    for entry in slim.graph.initializer:
        if np.prod(entry.dims, dtype=np.float64) > _SMALL:
            value = onnx.helper.make_tensor_value_info(entry.name, entry.data_type, list(entry.dims))
            slim.graph.input.append(value)
    kept = [entry for entry in slim.graph.initializer if np.prod(entry.dims, dtype=np.float64) <= _SMALL]
    del slim.graph.initializer[:]
    slim.graph.initializer.extend(kept)
    return slim


def _infer(model: Any) -> dict[str, Shape | None]:
    """The shapes of all tensors, as far as they are known."""
    import onnx

    inferred = onnx.shape_inference.infer_shapes(model, check_type=False, strict_mode=False, data_prop=True)
    shapes: dict[str, Shape | None] = {entry.name: tuple(entry.dims) for entry in inferred.graph.initializer}
    graph = inferred.graph
    for entry in (*graph.input, *graph.value_info, *graph.output):
        kind = entry.type.tensor_type
        if entry.type.HasField("tensor_type") and kind.HasField("shape"):
            known = all(dim.HasField("dim_value") for dim in kind.shape.dim)
            shape = tuple(dim.dim_value for dim in kind.shape.dim) if known else None
            shapes[entry.name] = shape if shape is not None else shapes.get(entry.name)
    return shapes


def _fold(model: Any, shapes: Mapping[str, Shape | None]) -> bool:
    """Computes shapes that a model computes itself, and puts them in as constants; returns whether there were any."""
    import onnx
    from onnx.reference import ReferenceEvaluator

    known = {
        entry.name: onnx.numpy_helper.to_array(entry)
        for entry in model.graph.initializer
        if entry.data_location != onnx.TensorProto.EXTERNAL
    }
    left, done = [], False
    for node in model.graph.node:
        inputs = [name for name in node.input if name]
        values: Any = None
        if node.op_type == "Constant" and not node.domain:
            values = ReferenceEvaluator(_alone(model, node)).run(None, {})
        elif node.op_type == "Shape" and not node.domain and shapes.get(node.input[0]) is not None:
            shape = np.array(shapes[node.input[0]], np.int64)
            attributes = {entry.name: entry.i for entry in node.attribute}
            values = [shape[attributes.get("start", 0) : attributes.get("end", len(shape))]]
        elif node.op_type in _SHAPE_ARITHMETIC and not node.domain and inputs and all(name in known for name in inputs):
            values = ReferenceEvaluator(_alone(model, node)).run(None, {name: known[name] for name in inputs})
        if values is None or any(np.size(value) > _SMALL for value in values):
            left.append(node)
            continue
        done = True
        for name, value in zip(node.output, values, strict=False):
            known[name] = np.asarray(value)
            model.graph.initializer.append(onnx.numpy_helper.from_array(known[name], name))
    if done:
        del model.graph.node[:]
        model.graph.node.extend(left)
    return done


def _alone(model: Any, node: Any) -> Any:
    """A model of one operator."""
    import onnx

    inputs = [onnx.ValueInfoProto(name=name) for name in dict.fromkeys(node.input) if name]
    outputs = [onnx.ValueInfoProto(name=name) for name in node.output]
    graph = onnx.helper.make_graph([node], "one", inputs, outputs)
    return onnx.helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)


def _measured(tensor: Any) -> float | None:
    import onnx

    if tensor is None or tensor.data_location == onnx.TensorProto.EXTERNAL:
        return None
    words = onnx.numpy_helper.to_array(tensor)
    return max(int(np.count_nonzero(words)), 1) / max(words.size, 1)
