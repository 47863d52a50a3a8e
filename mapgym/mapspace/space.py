"""The map space: all legal mappings of a workload onto an accelerator, over chosen axes."""

from __future__ import annotations

from collections.abc import Mapping as AbcMapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mapgym.errors import SpecificationError, require_kind
from mapgym.errors.text import quoted
from mapgym.mapping import Mapping, MappingBatch, legality
from mapgym.mapping.canonical_kernels import Sorting, normalise_batch
from mapgym.mapspace.construction.construction import Construction
from mapgym.mapspace.definition import Definition
from mapgym.mapspace.edits import Edits
from mapgym.mapspace.edits_kernels import EditTables
from mapgym.mapspace.encoding import Code, build_code
from mapgym.mapspace.entries import check_axes
from mapgym.mapspace.projection import Projection, Target, mesh_sides
from mapgym.mapspace.size import log10_count
from mapgym.spec.accelerator import Accelerator
from mapgym.spec.constraints import Constraints
from mapgym.spec.workload import Workload

# Roll-outs drawn in vain before sample gives up because the constraints reject them all.
_MAX_DRAWS = 1_000_000
_DRAWS_PER_ROUND = 20_000


class MapSpace:
    """All legal mappings of one workload onto one accelerator that agree with a base mapping off the searched axes.

    - "tile": the level factors, that is temporal times spatial factor of each dim at each level;
    - "parallelism": how a level factor splits into a spatial and a temporal one, and the mesh side of spatial loops;
    - "order": the order of the temporal loops of each level and, where neighbours exchange words or ways in a network
      cost energy (``Accelerator.spatial_order_counts``), of the spatial loops on each mesh side;
    - "bypass": which tensors each level but the outermost keeps.

    Spatial factors are searched only at levels with fan-out, on the mesh sides that have it, and a dim uses one mesh
    axis of a level. Mappings are compared in canonical form (:meth:`canonical`).

    Attributes:
        definition: all of the following, as data.
        workload, accelerator: what is mapped onto what.
        axes: the searched axes.
        constraints: what the user restricts.
        base: gives the values of the axes that are not searched.
        entries: what is searched, entry by entry.
    """

    def __init__(
        self,
        workload: Workload,
        accelerator: Accelerator,
        axes: Sequence[str] = ("tile", "order", "parallelism"),
        constraints: Constraints | AbcMapping[str, object] | None = None,
        base: Mapping | None = None,
    ) -> None:
        """Defines the space; nothing is enumerated.

        Args:
            workload, accelerator: what is mapped onto what.
            axes: at least one of tile, order, parallelism, bypass.
            constraints: restrictions, or their plain form.
            base: values of the axes that are not searched; by default all loops at the outermost level, nothing
                parallel, every tensor kept wherever it may be.

        Raises:
            SpecificationError: unknown axis, level or dim, or constraints that no mapping can satisfy.
        """
        require_kind(workload, Workload, "workload", "mapgym.catalog.workload(...)")
        require_kind(accelerator, Accelerator, "accelerator", "mapgym.catalog.accelerator(...)")
        if base is not None:
            require_kind(base, Mapping, "base", "Mapping.trivial(workload, accelerator)")
        if constraints is None:
            constraints = Constraints()
        elif not isinstance(constraints, Constraints):
            constraints = Constraints.from_dict(constraints)
        axes = check_axes(axes)
        constraints.check_names(workload, accelerator)
        try:
            self.definition = Definition.of(workload, accelerator, axes, constraints, base)
        except SpecificationError as error:
            raise _explained(error, workload, accelerator, axes, constraints, base) from None
        self.workload, self.accelerator = workload, accelerator
        self.axes, self.constraints = self.definition.axes, constraints
        self.base, self.entries = self.definition.base, self.definition.entries

    def __repr__(self) -> str:
        return f"MapSpace({quoted(self.workload.name)}, {quoted(self.accelerator.name)}, axes={self.axes})"

    def status(self, batch: MappingBatch) -> NDArray[np.int32]:
        """int32[n]: 0 for a legal mapping, else what is wrong; see :mod:`mapgym.mapping.legality`.

        Legality is a matter of the hardware alone: axes and constraints are looked at by :meth:`contains`.
        """
        return self.definition.status(batch)

    def reason(self, mapping: Mapping) -> str:
        """Why a mapping is illegal, in one sentence; "" if it is legal."""
        status = int(self.status(mapping.batch())[0])
        return legality.reason(status, self.workload, self.accelerator, mapping)

    def contains(self, mappings: Mapping | MappingBatch) -> Any:
        """Whether mappings are legal, satisfy the constraints and agree with the base off the searched axes.

        Returns:
            bool[n] for a batch, a bool for one mapping.
        """
        if isinstance(mappings, Mapping):
            return bool(self.contains(mappings.batch())[0])
        inside = self.status(mappings) == legality.LEGAL
        inside[inside] = self._follows(mappings[inside])
        inside[inside] = self._is_within(mappings[inside])
        inside &= mappings.used_macs() >= self.entries.min_used_macs
        return inside

    def sample(self, rng: np.random.Generator, n: int) -> MappingBatch:
        """Draws n mappings of the space; each of its mappings can come up.

        Args:
            rng: source of randomness; the same state gives the same mappings.
            n: how many, at least 0.

        Raises:
            SpecificationError: the constraints leave no mapping, or so few that none was found; or n mappings do not
                fit into memory.
        """
        if isinstance(n, bool) or not isinstance(n, int | np.integer) or n < 0:
            raise SpecificationError(f"cannot draw {quoted(n)} mappings; ask for a whole number of at least 0")
        construction = self.construction
        if self.construction_is_exact:
            return construction.sample(rng, n)
        found: list[MappingBatch] = [construction.sample(rng, 0)]
        count = drawn = in_vain = 0
        while count < n:
            if in_vain >= _MAX_DRAWS:
                raise self.explained(
                    SpecificationError(
                        f"no legal mapping found in {_MAX_DRAWS} draws for {quoted(self.workload.name)} on "
                        f"{quoted(self.accelerator.name)}; loosen min_utilization, fixed factors or parallel_dims"
                    )
                )
            size = min(_DRAWS_PER_ROUND, max(2 * n, drawn))
            batch = construction.sample(rng, size)
            found.append(batch[np.flatnonzero(self.contains(batch))[: n - count]])
            drawn += size
            in_vain = 0 if len(found[-1]) else in_vain + size
            count += len(found[-1])
        return MappingBatch.concatenate(found)

    def log10_size(self) -> float:
        """Log10 of the number of distinct mappings before capacities and fan-outs are looked at.

        Counted are canonical forms with the right products that agree with the base and with fixed factors, fixed
        orders and parallel_dims; min_utilization is a limit, as capacities are. Accurate to about 1e-12.
        """
        return log10_count(self.entries)

    def canonical(self, batch: MappingBatch) -> MappingBatch:
        """The same mappings without redundancy; cost and legality do not change.

        Temporal loops of bound 1 go to the end of their order by ascending dim. Spatial loops are those on X, those
        on Y, those of bound 1 by ascending dim; the split is the number of those on X. Where nothing depends on the
        order of the spatial loops on a mesh side (``Accelerator.spatial_order_counts``), they are sorted by dim.

        Raises:
            SpecificationError: the mappings are of another task, or an order is not a permutation of the dims.
        """
        self._require(batch)
        return self._normalised(batch, self.definition.canonical_sorting)

    @property
    def nvec(self) -> NDArray[np.int64]:
        """int64[k]: number of values of each column of :meth:`encode`, for a ``MultiDiscrete`` space."""
        return self._code.sizes.copy()

    @property
    def code_names(self) -> tuple[str, ...]:
        """What each column of :meth:`encode` stands for, such as "factors of C" or "order of GlobalBuffer"."""
        return self._code.names

    def encode(self, mappings: Mapping | MappingBatch) -> NDArray[np.int64]:
        """Mappings as whole numbers, one column for each independent choice; fixed entries are not coded.

        ``decode(encode(m))`` is the canonical form of m. The inverse holds for codes of that kind; other codes of the
        same mapping differ in the places that an order or a mesh side gives to loops of bound 1.

        Args:
            mappings: may exceed capacities, fan-outs and ranges of factors, but otherwise belong to the space.

        Returns:
            int64[n, k], or int64[k] for one mapping; below :attr:`nvec`.

        Raises:
            SpecificationError: a mapping is of another task, has an order that is no permutation or wrong products, or
                differs from the base off the searched axes.
        """
        if isinstance(mappings, Mapping):
            return self.encode(mappings.batch())[0]
        canonical = self.canonical(mappings)
        follows = self._follows(canonical)
        if not follows.all():
            raise SpecificationError(
                f"mapping {int(np.argmin(follows))} of the batch cannot be encoded in {quoted(self)}: its products are "
                "wrong or it differs from the base or the constraints in something that is not searched"
            )
        return self._code.encode(canonical)

    def decode(self, codes: NDArray[np.integer] | Sequence[Sequence[int]]) -> MappingBatch:
        """The mappings of codes, in canonical form; products are right; limits may be exceeded.

        Args:
            codes: int[n, k], each at least 0 and below :attr:`nvec`.

        Raises:
            SpecificationError: wrong number of columns, or a value out of range.
        """
        batch = self._code.decode(codes)
        normalise_batch(batch.arrays(), self.sorting)
        return batch

    def neighbors(
        self, mapping: Mapping, order: NDArray[np.integer] | None = None, *, check: bool = True
    ) -> MappingBatch:
        """All mappings of the space that differ from one of its mappings by a single edit, in canonical form.

        Edits, along the searched axes only: move a prime factor of a dim from one slot to another (a slot is the
        temporal or spatial factor of a level); swap two temporal loops of a level, or two spatial ones on the same
        mesh side where their order counts; move a spatial loop to the other mesh side; keep or
        bypass a tensor. A loop that an edit creates is the outermost of its level (and mesh side).

        Args:
            mapping: where to start.
            order: int[level, dim] dims, innermost first. If given, the temporal loops of all neighbours have this order
                where it is searched, and none are swapped.
            check: whether to make sure that the mapping is in the space, which takes longer than all the rest.

        Raises:
            SpecificationError: the mapping is not in the space, or an order is no permutation of the dims.
        """
        start = mapping.batch()
        self._require(start)
        if check and not self.contains(mapping):
            why = self.reason(mapping) or "it differs from the base or the constraints in something not searched"
            raise SpecificationError(f"the mapping is not in {quoted(self)} and so has no neighbours there: {why}")
        sorting = self.sorting
        if order is not None:
            order = np.asarray(order)
            if order.shape != mapping.order.shape or not (np.sort(order) == np.arange(order.shape[-1])).all():
                raise SpecificationError(f"order is {quoted(order)}; give a permutation of the dims for each level")
            places = np.argsort(order, axis=1)
            within = np.argsort(np.argsort(self.entries.order_tier * order.shape[-1] + places, axis=1), axis=1)
            rank = np.where(sorting.temporal[:, None] & ~self._has_tiers[:, None], sorting.temporal_rank, within)
            sorting = sorting._replace(temporal=np.ones_like(sorting.temporal), temporal_rank=rank.astype(np.int8))
        return self._edits.neighbors(self._normalised(start, sorting), sorting)

    def random_neighbor(self, rng: np.random.Generator, batch: MappingBatch) -> MappingBatch:
        """A random neighbour of each mapping: a random kind of edit among those possible, then a random one of it.

        Args:
            rng: source of randomness.
            batch: mappings of the space; this is not checked.

        Returns:
            One neighbour each, in canonical form; the mapping itself where it has none.

        Raises:
            SpecificationError: the mappings are of another task, or an order is no permutation of the dims.
        """
        self._require(batch)
        return self._edits.random_neighbor(rng, batch)

    def project(self, target: Target) -> tuple[MappingBatch, NDArray[np.bool_]]:
        """The mappings of the space nearest to targets, by the rule of :mod:`mapgym.mapspace.projection`.

        Args:
            target: n mappings whose factors may be anything.

        Returns:
            n mappings, and bool[n], whether each is in the space. One that is not has a level whose tiles or
            parallelism cannot be made small enough along the searched axes, or less parallelism than asked for.

        Raises:
            SpecificationError: wrong shapes, a factor that is not finite, an order that is no permutation.
        """
        return self.projection.project(target)

    fit = project  # its former name

    def repair(self, batch: MappingBatch) -> tuple[MappingBatch, NDArray[np.bool_]]:
        """The mappings of the space nearest to those of a batch, which may be illegal; see :meth:`project`."""
        self._require(batch)
        return self.projection.project(Target.of(batch))

    def mended(self, batch: MappingBatch) -> MappingBatch:
        """A batch of which those mappings that exceed the limits of constraints are moved into the space, in place.

        For whatever makes mappings by the hardware's rules and knows no ranges, sides or partly free orders; a space
        without these returns the batch as it is.
        """
        if not self.entries.is_limited:
            return batch
        outside = np.flatnonzero(~self.contains(batch))
        if len(outside):
            batch[outside], _ = self.repair(batch[outside])
        return batch

    def _require(self, batch: MappingBatch) -> None:
        """Raises SpecificationError unless a batch is of this task and its orders are permutations of the dims.

        The kernels of this class use orders as indices into memory. What the factors are does not matter to that.
        """
        require_kind(batch, MappingBatch, "batch", "MapSpace(...).sample(rng, n)")
        if batch.names != self.base.names:
            legality.require_task(batch, self.workload, self.accelerator)
        legality.require_orders(batch)

    def _follows(self, batch: MappingBatch) -> NDArray[np.bool_]:
        """bool[n]: right products, and agreement with whatever is not searched; orders must be permutations."""
        entries = self.entries
        slots = np.concatenate([batch.temporal, batch.spatial], axis=1)
        inside = ((entries.fixed == 0) | (slots == entries.fixed)).all(axis=(1, 2))
        for group in entries.groups:
            # Factors may be negative or huge here, where a float64 product cannot wrap around to the right one.
            inside &= slots[:, list(group.slots), group.dim].prod(axis=1, dtype=np.float64) == group.total
            inside &= (slots[:, list(group.slots), group.dim] > 0).all(axis=1)
        inside &= ((entries.keep_free) | (batch.keep == entries.keep)).all(axis=(1, 2))
        on_y = mesh_sides(batch)
        misplaced = (batch.spatial > 1) & ~entries.side_free & (on_y != entries.on_y)
        inside &= ~misplaced.any(axis=(1, 2))
        canonical, expected = (self._normalised(batch, s) for s in (self.definition.canonical_sorting, self.sorting))
        for name in ("order", "spatial_order"):
            inside &= (getattr(canonical, name) == getattr(expected, name)).all(axis=(1, 2))
        return inside

    @property
    def _has_tiers(self) -> NDArray[np.bool_]:
        """bool[level]: whether the order of the temporal loops is free in part."""
        tier = np.sort(self.entries.order_tier, axis=1)
        return (tier[:, 1:] == tier[:, :-1]).any(axis=1)

    def _is_within(self, batch: MappingBatch) -> NDArray[np.bool_]:
        """bool[n]: whether factors, and the mesh sides that they are on, are within the limits of the constraints."""
        if not self.entries.is_limited:
            return np.ones(len(batch), np.bool_)
        return self.entries.limits.allow(batch.temporal, batch.spatial, mesh_sides(batch))

    def _normalised(self, batch: MappingBatch, sorting: Sorting) -> MappingBatch:
        """The mappings with their loops sorted; orders must be permutations, which :meth:`_require` looks at."""
        results = batch.copy()
        normalise_batch(results.arrays(), sorting)
        return results

    @property
    def sorting(self) -> Sorting:
        """Which orders are not searched, for kernels that bring mappings into the form of this space."""
        return self.definition.sorting

    @property
    def edit_tables(self) -> EditTables:
        """What single edits depend on, for kernels that edit mappings."""
        return self._edits.tables

    @cached_property
    def _edits(self) -> Edits:
        return Edits(self.definition)

    @cached_property
    def _code(self) -> Code:
        return build_code(self.definition)

    @cached_property
    def projection(self) -> Projection:
        """What brings wishes into this space."""
        return Projection(self.definition)

    @cached_property
    def construction(self) -> Construction:
        """The process that builds mappings of this space, one legal choice at a time."""
        try:
            return Construction(self.definition)
        except SpecificationError as error:
            raise self.explained(error) from None

    def explained(self, error: SpecificationError) -> SpecificationError:
        """What is wrong with this space, which has no mapping, and a smallest set of what excludes all of them."""
        return _explained(error, self.workload, self.accelerator, self.axes, self.constraints, self.base)

    @property
    def construction_is_exact(self) -> bool:
        """Whether what :attr:`construction` completes is always in the space."""
        return self.definition.construction_is_exact


def _explained(
    error: SpecificationError,
    workload: Workload,
    accelerator: Accelerator,
    axes: tuple[str, ...],
    constraints: Constraints,
    base: Mapping | None,
) -> SpecificationError:
    # Few spaces are empty.
    from mapgym.mapspace.conflict import find_conflict

    return SpecificationError(f"{error}{find_conflict(workload, accelerator, axes, constraints, base).text}")
