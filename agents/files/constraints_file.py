"""Constraints in files: as YAML of ours, or as Timeloop has them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mapgym.errors import SpecificationError, suggest
from mapgym.errors.text import quoted
from mapgym.spec import catalog
from mapgym.spec.constraints import Constraints
from mapgym.system.input_file import read_text
from mapgym.system.yaml_loader import load_yaml

if TYPE_CHECKING:
    from mapgym.spec.accelerator import Accelerator
    from mapgym.spec.workload import Workload
    from mapgym.timeloop.reading.documents import Documents, Ignored, Section

_TIMELOOP = "timeloop"


@dataclass(frozen=True)
class TaskConstraints:
    """What a file says of one task.

    Attributes:
        constraints: of the map space.
        accelerator: the hardware, with what the file says of it.
        ignored: what has no effect, one line each.
    """

    constraints: Constraints
    accelerator: Accelerator
    ignored: tuple[Ignored, ...] = ()


@dataclass(frozen=True)
class ConstraintsFile:
    """The content of a file, which means something only for a task.

    Attributes:
        path: the file.
        own: constraints of ours; None for Timeloop's.
        sections: of Timeloop's.
        network_dims: dims of all layers of the network that the constraints are for; empty for a single layer.
    """

    path: str
    own: Constraints | None = None
    sections: tuple[Section, ...] = ()
    network_dims: tuple[str, ...] = ()

    def for_task(self, workload: Workload, accelerator: Accelerator) -> TaskConstraints:
        """What holds for a task; in a network, without what is said of dims that the layer does not have.

        Raises:
            SpecificationError: it names what there is not, or says what cannot be.
        """
        if self.own is not None:
            own = self.own.for_dims(workload.dims) if self.network_dims else self.own
            return TaskConstraints(own, accelerator)
        from mapgym.timeloop.reading.constraints import read_timeloop_constraints

        read = read_timeloop_constraints(self.sections, workload, accelerator, self.network_dims)
        return TaskConstraints(read.constraints, read.accelerator, tuple(read.ignored))

    def for_network(self, workloads: Iterable[Workload]) -> ConstraintsFile:
        """The same for all layers of a network.

        Raises:
            SpecificationError: no layer has a dim that is named.
        """
        dims = tuple(dict.fromkeys(dim for workload in workloads for dim in workload.dims))
        for dim in self.own.dims if self.own is not None else ():
            if dim not in dims:
                raise SpecificationError(
                    f"{self.path}: constraints name the dim {quoted(dim)}, which no layer of the network has; "
                    f"{suggest(dim, dims)}"
                )
        return replace(self, network_dims=dims)

    def for_layer(self, workload: Workload, accelerator: Accelerator) -> TaskConstraints:
        """What holds for a layer of a network, whose layers all have the same hardware.

        Raises:
            SpecificationError: as :meth:`for_task`, or the file says something of the hardware.
        """
        found = self.for_task(workload, accelerator)
        if found.accelerator != accelerator:
            raise SpecificationError(
                f"{self.path}: says what is a property of the hardware here (no_multicast, no_temporal_reuse or "
                "peer_links), which is the same for all layers of a network; give it to the accelerator and remove it "
                "from the constraints"
            )
        return found

    def to_dict(self) -> dict[str, object]:
        """JSON-able; what decides results."""
        if self.own is not None:
            return self.own.to_dict()
        return {_TIMELOOP: [[section.name, section.value, section.file, section.key] for section in self.sections]}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], where: str) -> ConstraintsFile:
        """Reads what :meth:`to_dict` gives."""
        if _TIMELOOP not in data:
            return cls(where, Constraints.from_dict(data, where))
        from mapgym.timeloop.reading.documents import Section

        return cls(where, sections=tuple(Section(name, value, file, key) for name, value, file, key in data[_TIMELOOP]))


def constraints_within(accelerator: str) -> ConstraintsFile | None:
    """The constraints that files for Timeloop hold beside or inside of an architecture; None if there are none.

    Args:
        accelerator: as it was named.
    """
    if not catalog.is_for_timeloop(accelerator):
        return None
    from mapgym.timeloop.reading.constraint_lists import SECTIONS, list_constraints
    from mapgym.timeloop.reading.named import named_documents

    sections = named_documents(accelerator).every(*SECTIONS)
    return ConstraintsFile(accelerator, sections=tuple(sections)) if list_constraints(sections) else None


def read_constraints(path: Path) -> ConstraintsFile:
    """The constraints in a file: ours, or any that Timeloop reads.

    Raises:
        SpecificationError: there is no such file, or it holds no constraints.
    """
    if path.is_file():
        # What is only theirs costs nothing for files of ours.
        from mapgym.timeloop.reading.constraint_lists import SECTIONS, looks_like_timeloop

        if looks_like_timeloop(read_text(path, "constraints")):
            from mapgym.timeloop.reading.documents import read_documents

            documents: Documents = read_documents(path)
            return ConstraintsFile(str(path), sections=tuple(documents.every(*SECTIONS)))
    data: Any = load_yaml(path)
    if not isinstance(data, dict):
        raise SpecificationError(f"{path}: holds no keys; give constraints such as 'min_utilization: 0.5'")
    try:
        return ConstraintsFile(str(path), Constraints.from_dict(data))
    except SpecificationError as error:
        raise SpecificationError(f"{path}: {error}") from None
