"""Working memory of the search, and tables."""

from __future__ import annotations

import numpy as np

from mapgym.cost.optimum.depth.boundary_kernels import State
from mapgym.cost.optimum.depth.order_kernels import MOST_RECORDS, Orders
from mapgym.cost.optimum.depth.problem import Problem
from mapgym.cost.optimum.depth.search_kernels import Descent
from mapgym.cost.optimum.depth.slide_kernels import Slides, Stack, fill_slides
from mapgym.cost.optimum.depth.table_kernels import OPTIONS, Tables, Tile


def make_state(problem: Problem) -> State:
    """Nothing chosen."""
    levels, tensors = problem.serve.shape
    dims = len(problem.bounds)
    return State(
        choice=np.zeros(levels, np.int64),
        keep=np.ones((levels, tensors), np.bool_),
        spatial=np.ones((levels, dims), np.int64),
        outer=np.ones((levels + 1, dims), np.int64),
        used=np.ones(levels + 1),
        distinct=np.ones((levels, tensors)),
        weight=np.zeros((levels, tensors)),
        shared=np.zeros((levels, tensors)),
        straight=np.zeros((levels, tensors)),
        known=np.zeros(levels),
    )


def make_slides(problem: Problem) -> Slides:
    """Computes the shares of steps that are saved, for every sliding rank."""
    tensors, dims = problem.role.shape
    most = problem.divisors.shape[1] if (problem.partner >= 0).any() else 1
    shape = (2, tensors, dims, most, most)
    slides = Slides(np.zeros((*shape, most)), np.zeros((*shape, most)), np.zeros(shape), np.zeros(shape))
    depth = 2 * int(problem.bounds.max()).bit_length() + 2
    stack = Stack(
        np.zeros((depth, 2), np.int64),
        np.zeros(depth, np.int64),
        np.zeros(depth),
        np.zeros((depth, 2)),
        np.zeros((depth, 3), np.int64),
    )
    fill_slides(problem, slides, stack)
    return slides


def make_tile(problem: Problem) -> Tile:
    """Allocates the working memory for one tile."""
    dims, most = problem.divisors.shape
    levels, tensors = problem.serve.shape
    options = (levels + 1, tensors + 1, OPTIONS)

    def whole() -> np.ndarray:
        return np.ones(dims, np.int64)

    return Tile(
        extent=np.ones((1, dims), np.int64), indices=whole(), block=whole(), left=whole(), loop=whole(),
        base=np.zeros(tensors), rest=np.ones(tensors), whole=np.ones(tensors + 1),
        value=np.zeros(options), run=np.zeros(options),
        option=np.zeros((dims, most), np.int64), counts=whole(), turn=whole(),
    )  # fmt: skip


def make_tables(problem: Problem, slots: int) -> Tables:
    """Allocates room for the tables of so many boundaries."""
    n, groups = int(problem.stride[-1]), len(problem.words) + 1
    return Tables(
        np.empty((slots, groups, OPTIONS, n)),
        np.empty((slots, groups, OPTIONS, n)),
        np.empty((slots, n)),
        np.empty((slots, groups, n)),
        np.empty((slots, n)),
    )


def table_bytes(problem: Problem) -> int:
    """Bytes of the tables of a boundary."""
    return 8 * int(problem.stride[-1]) * (2 + (1 + 2 * OPTIONS) * (len(problem.words) + 1))


def fill_outermost(problem: Problem, tables: Tables) -> None:
    """The tables outside the outermost level: its tile is the whole problem, and nothing is outside."""
    for table in tables:
        table[:] = np.inf
    n = len(tables.least)
    tables.least[-1] = 0.0
    tables.anywhere[:] = 0.0
    places = np.arange(n)
    for c in range(len(tables.beyond)):
        whole = np.ones(n, np.bool_)
        for d in np.flatnonzero(problem.group == c):
            whole &= places // problem.stride[d] % problem.counts[d] == problem.counts[d] - 1
        tables.beyond[c, whole] = 0.0


def make_orders(problem: Problem) -> Orders:
    """Allocates the working memory for orders."""
    levels, tensors = problem.serve.shape
    dims = len(problem.bounds)
    depth = levels * dims + 2
    real = (depth, levels, tensors)

    def whole(*shape: int) -> np.ndarray:
        return np.zeros(shape, np.int64)

    return Orders(
        extent=np.ones((levels, dims), np.int64), loop=whole(levels, dims), step=whole(levels, dims),
        tile=np.zeros((levels, tensors)), total=np.ones(levels), pattern=whole(levels, tensors),
        still=np.zeros(real), saved=np.zeros(real), part=np.zeros(real),
        reach=np.zeros(real), first=whole(*real), moved=whole(*real), state=whole(*real),
        suffix=np.zeros((depth, levels)), left=whole(depth, levels), level=whole(depth), turn=whole(depth),
        chosen=whole(depth), outside=np.zeros(levels + 1), best=np.full((levels, levels * dims), -1, np.int64),
        records=whole(MOST_RECORDS, 2 * levels * dims), recorded=whole(1),
    )  # fmt: skip


def make_descent(problem: Problem) -> Descent:
    """Allocates the working memory for chains."""
    levels = len(problem.serve)
    dims, most = problem.divisors.shape

    def whole(*shape: int) -> np.ndarray:
        return np.zeros(shape, np.int64)

    return Descent(
        option=whole(levels, dims, most), counts=whole(levels, dims), turn=whole(levels, dims),
        promising=whole(levels, dims), slot=whole(levels + 1), settled=np.zeros(levels),
        merges=np.zeros(levels, np.bool_), refines=np.zeros(1, np.bool_),
        found=whole(levels, dims), loops=whole(levels * dims), place=whole(2),
    )  # fmt: skip
