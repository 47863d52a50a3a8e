"""Compiled counts of the non-zeros of a square matrix that lie within a band around its diagonal, tile by tile.

The word (r, c) of a matrix of ``side`` rows and columns is not zero if |r - c| <= ``band``. Tiles of ``rows`` times
``columns`` words lie side by side. As in Sparseloop, not every row of tiles is looked at: those that the band begins in
count twice, once for those that it ends in, and the one behind them stands for all in between.

A *grid* is (rows and columns of a tile, tiles along the columns of the matrix and along its rows, rows of tiles that
the band begins in, how often the row behind them counts).
"""

from __future__ import annotations

from typing import TypeAlias

from mapgym.compilation import inlined_kernel, kernel

Grid: TypeAlias = "tuple[int, int, int, int, int, int]"


@inlined_kernel
def _corner(rows: int, columns: int, band: int) -> int:
    """Non-zeros of the first rows and columns of the matrix."""
    above, below = max(columns - band - 1, 0), max(rows - band - 1, 0)
    m, n = min(rows, above), min(columns, below)
    return rows * columns - (m * above - m * (m - 1) // 2) - (n * below - n * (n - 1) // 2)


@kernel
def _inside(first_row: int, last_row: int, first_column: int, last_column: int, band: int) -> int:
    """Non-zeros of a tile; the last row and column do not belong to it."""
    if last_row <= first_row or last_column <= first_column:
        return 0
    return (
        _corner(last_row, last_column, band)
        - _corner(first_row, last_column, band)
        - _corner(last_row, first_column, band)
        + _corner(first_row, first_column, band)
    )


@kernel
def band_grid(side: int, band: int, words: int, rows: int) -> Grid:
    """The grid of tiles of so many words and rows."""
    columns = min(words // rows, side)
    rows = min(rows, side)
    down, across = side // rows, side // columns
    begins = (band + rows - 1) // rows
    return rows, columns, down, across, begins, max(down - 2 * begins, 0)


@inlined_kernel
def _weight(grid: Grid, i: int) -> int:
    """How often row i of tiles counts. QUIRK: the counts can add up to more rows than there are."""
    _, _, down, _, begins, between = grid
    if i >= begins:
        return between
    return 2 if begins != down else 1


@inlined_kernel
def _filled(grid: Grid, band: int, i: int) -> tuple[int, int]:
    """The first tile of row i that is not empty, and the first one behind those."""
    rows, columns, _, across, _, _ = grid
    first = max(i * rows - band, 0) // columns
    last = (i * rows + rows - 1 + band) // columns + 1
    return min(first, across), min(last, across)


@inlined_kernel
def _words_in(grid: Grid, band: int, i: int, j: int) -> int:
    """Non-zeros of tile j of row i."""
    rows, columns = grid[0], grid[1]
    return _inside(i * rows, (i + 1) * rows, j * columns, (j + 1) * columns, band)


@kernel
def band_chance(side: int, band: int, words: int, rows: int, k: int) -> float:
    """Share of the tiles that hold k non-zeros."""
    grid = band_grid(side, band, words, rows)
    down, across, begins = grid[2], grid[3], grid[4]
    count = 0
    for i in range(min(begins + 1, down)):
        first, last = _filled(grid, band, i)
        found = 0
        if k == 0:
            found = across - (last - first)
        else:
            for j in range(first, last):
                found += _words_in(grid, band, i, j) == k
        count += found * _weight(grid, i)
    return count / (down * across)


@kernel
def next_in_band(side: int, band: int, words: int, rows: int, k: int) -> int:
    """The smallest number of non-zeros of a tile above k, or k if there is none."""
    grid = band_grid(side, band, words, rows)
    best = k
    for i in range(min(grid[4] + 1, grid[2])):
        first, last = _filled(grid, band, i)
        if _weight(grid, i) > 0:
            for j in range(first, last):
                held = _words_in(grid, band, i, j)
                if held > k and (held < best or best == k):
                    best = held
    return best


@kernel
def largest_in_band(side: int, band: int, words: int, rows: int) -> int:
    """Most non-zeros of a tile."""
    grid = band_grid(side, band, words, rows)
    most = 0
    for i in range(min(grid[4] + 1, grid[2])):
        first, last = _filled(grid, band, i)
        for j in range(first, last):
            most = max(most, _words_in(grid, band, i, j))
    return most


@kernel
def _first_tile(grid: Grid, band: int, k: int) -> tuple[int, int]:
    """Row and column, in words, where the first tile with k non-zeros begins."""
    rows, columns, down, across, begins, _ = grid
    for i in range(min(begins + 1, down)):
        first, last = _filled(grid, band, i)
        if k == 0 and first > 0:
            return i * rows, 0
        if k == 0 and last < across:
            return i * rows, last * columns
        for j in range(first, last):
            if k > 0 and _words_in(grid, band, i, j) == k:
                return i * rows, j * columns
    return 0, 0


@kernel
def band_chance_empty_within(side: int, band: int, words: int, rows: int, outer: tuple[int, int], k: int) -> float:
    """Share of the parts of a tile that are empty, if the tile holds k non-zeros.

    The first such tile stands for all. QUIRK: where a part begins, Sparseloop adds the place of the tile twice, so that
    parts of a tile that is not at the first row or column are cut short.

    Args:
        side, band: of the matrix.
        words, rows: of a part.
        outer: words and rows of the tile.
        k: its non-zeros.
    """
    around = band_grid(side, band, outer[0], outer[1])
    top, left = _first_tile(around, band, k)
    grid = band_grid(side, band, words, rows)
    rows, columns = grid[0], grid[1]
    down, across = max(around[0] // rows, 1), max(around[1] // columns, 1)
    count = 0
    for i in range(down):
        for j in range(across):
            row, column = top + i * rows, left + j * columns
            count += _inside(top + row, row + rows, left + column, column + columns, band) == 0
    return count / (down * across)
