"""Shapes of problems that Timeloop's files name only: in its folder ``problem-shapes``, and in those of public projects.

A projection is written as Timeloop's files have it, a list of ranks, each a list of terms: a dim, or a dim and the name
of a coefficient. Coefficients are 1 unless a problem says otherwise.
"""

from __future__ import annotations

from typing import Any

_STRIDES = ("Wstride", "Hstride", "Wdilation", "Hdilation")
_ROWS: list[list[str]] = [["R", "Wdilation"], ["P", "Wstride"]]
_COLUMNS: list[list[str]] = [["S", "Hdilation"], ["Q", "Hstride"]]
_DEPTHS: list[list[str]] = [["T", "Ddilation"], ["F", "Dstride"]]


def _shape(dims: str, coefficients: tuple[str, ...], **spaces: str | list[Any]) -> dict[str, Any]:
    """A shape of one-letter dims; the last data-space is the output. Digits stand for ranks that slide."""
    ranks = {"1": _ROWS, "2": _COLUMNS, "3": _DEPTHS}
    return {
        "dimensions": list(dims),
        "coefficients": [{"name": name, "default": 1} for name in coefficients],
        "data_spaces": [
            {
                "name": name,
                "projection": [ranks.get(rank, [[rank]]) for rank in letters],
                "read_write": name == list(spaces)[-1],
            }
            for name, letters in spaces.items()
        ],
    }


_CONVOLUTION = _shape("RSPQCKN", _STRIDES, Weights="CKRS", Inputs="NC12", Outputs="NKQP")
_OLD_CONVOLUTION = _shape("RSPQCKN", _STRIDES, Weights="CKRS", Inputs="NC12", Outputs="NKQP")

SHAPES: dict[str, dict[str, Any]] = {
    "cnn_layer": _CONVOLUTION,
    "transpose_cnn_layer": _CONVOLUTION,
    "dw_cnn_layer": _shape("RSPQCN", _STRIDES, Weights="CRS", Inputs="NC12", Outputs="NCQP"),
    "3d_cnn_layer": _shape(
        "RSTPQFCKN", (*_STRIDES, "Dstride", "Ddilation"), Weights="CKRST", Inputs="NC123", Outputs="NKQPF"
    ),
    "grouped_cnn": _shape("CMRSNPQG", _STRIDES, Weights="CMRSG", Inputs="NC12G", Outputs="NMQPG"),
    "gemm": _shape("MNK", (), A="MK", B="NK", C="MN", D="MN"),
    "gemm_abz": _shape("MNK", (), A="MK", B="NK", Z="MN"),
}
"""By name, in lower case with underscores. The last is what Timeloop's own problems of sparse designs use."""

DEFAULTS = {"grouped_cnn": 1}
"""Bound of a dim that a problem does not give, of shapes where that is usual."""

DEFAULT_SHAPE = "cnn_layer"
"""What Timeloop takes where a problem has no shape."""
