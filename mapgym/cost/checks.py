"""Which tasks can be priced: those whose cycles and sparse counts stay exact."""

from __future__ import annotations

from mapgym.errors import SpecificationError
from mapgym.errors.text import quoted
from mapgym.spec.accelerator import Accelerator
from mapgym.spec.counts import largest_count, power_of_two
from mapgym.spec.ranges import MAX_HYPERGEOMETRIC_WORDS, MAX_WHOLE
from mapgym.spec.workload import Workload


def check_task(workload: Workload, accelerator: Accelerator) -> None:
    """Raises SpecificationError if cycles or sparse counts of a workload on an accelerator could be inexact."""
    where = f"workload {quoted(workload.name)} on accelerator {quoted(accelerator.name)}"
    bounds = dict(zip(workload.dims, workload.bounds, strict=True))
    counts = [largest_count(tensor, bounds) for tensor in workload.tensors]
    for level in accelerator.levels:
        for key in ("read", "write", "shared"):
            bandwidth = getattr(level, f"{key}_bandwidth_words_per_cycle")
            # Reads, fills and updates, those for neighbours included.
            if bandwidth is not None and 8 * sum(counts) > MAX_WHOLE * bandwidth:
                raise SpecificationError(
                    f"{where}: {key}_bandwidth_words_per_cycle {bandwidth:g} of {quoted(level.name)} could take more "
                    "than the 2**62 cycles that can be counted; give a higher one or split the layer"
                )
        if accelerator.is_sparse and max(counts) * level.block_size_words > MAX_WHOLE:
            raise SpecificationError(
                f"{where}: the {level.block_size_words} words of a block of {quoted(level.name)} are too many for the "
                "largest tensor on sparse hardware; give a smaller block_size_words or split the layer"
            )
        # Each rank of a format has at most two words of metadata for a word of the tile; 32 of them are a lot.
        if level.formats and max(counts) * level.metadata_word_bits * 64 > MAX_WHOLE:
            raise SpecificationError(
                f"{where}: metadata of {level.metadata_word_bits} bits a word at {quoted(level.name)} could take more "
                "than 2**62 bits; give a smaller metadata_word_bits or split the layer"
            )
    for tensor in workload.tensors if accelerator.is_sparse else ():
        words = workload.tensor_size(tensor.name)
        if tensor.density_distribution == "hypergeometric" and words > MAX_HYPERGEOMETRIC_WORDS:
            raise SpecificationError(
                f"{where}: tensor {quoted(tensor.name)} has {power_of_two(words)} words, too many for the "
                "hypergeometric density; give it the density_distribution 'fixed-structured' or split the layer"
            )
