"""The replay buffer: what it keeps and what it finds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mapgym.errors import SpecificationError
from mapgym.mapping import Mapping
from mapgym.mapspace import MapSpace
from mapgym.spec import catalog
from mapgym.spec.accelerator import Accelerator
from mapgym.spec.workload import conv2d
from mapgym.warmstart import Entry, ReplayBuffer, editing_distance

MACHINE = catalog.accelerator("accel_b")


def layer(channels: int, name: str = "layer"):
    return conv2d(name, N=1, C=channels, M=16, P=8, Q=8, R=3, S=3)


def entry(channels: int, seed: int = 0, accelerator=MACHINE) -> Entry:
    space = MapSpace(layer(channels), accelerator)
    mapping = space.sample(np.random.default_rng(seed), 1)[0]
    memory = ReplayBuffer()
    return Entry(space.workload, accelerator, "edp", memory.add(space.workload, accelerator, mapping), mapping)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "layers.buffer"


def test_what_is_added_is_read_back(path):
    added = [entry(channels) for channels in (8, 16, 32)]
    ReplayBuffer(path).extend(added)
    again = ReplayBuffer(path)
    assert [(e.workload, e.accelerator, e.objective, e.value, e.mapping) for e in again] == [
        (e.workload, e.accelerator, e.objective, e.value, e.mapping) for e in added
    ]
    again.extend([entry(64)])
    assert len(ReplayBuffer(path)) == 4
    assert not ReplayBuffer(path).damaged
    assert not [*ReplayBuffer(path).problems()]


def test_names_may_hold_anything_that_can_be_seen(path):
    odd = replace(entry(8), workload=layer(8, "a \"name\", 'of' \\two | Länder; 层"))
    ReplayBuffer(path).extend([odd])
    assert ReplayBuffer(path)[0].workload == odd.workload


def test_values_are_priced_not_believed(path):
    with pytest.raises(SpecificationError, match="is illegal and cannot be added: the factors of dim"):
        ReplayBuffer(path).add(layer(8), MACHINE, Mapping.trivial(layer(16), MACHINE))
    assert not path.exists()
    buffer = ReplayBuffer(path)
    buffer.extend([replace(entry(8), value=1.0)])
    assert [number for number, why in buffer.problems() if "it costs" in why] == [0]


class TestNearest:
    def test_the_nearest_come_first(self):
        buffer = ReplayBuffer()
        buffer.extend(entry(channels) for channels in (8, 64, 512))
        found = buffer.nearest(layer(32), MACHINE, count=2)
        assert [neighbor.entry.workload.bound("C") for neighbor in found] == [64, 8]
        assert 0 < found[0].distance < found[1].distance

    def test_of_each_layer_the_best(self):
        buffer = ReplayBuffer()
        entries = [entry(16, seed) for seed in range(5)]
        buffer.extend(entries)
        found = buffer.nearest(layer(16), MACHINE, count=3)
        assert [neighbor.entry.value for neighbor in found] == [min(e.value for e in entries)]

    def test_the_same_accelerator_goes_before_all_others(self):
        other = replace(MACHINE, peer_links=False)
        buffer = ReplayBuffer()
        buffer.extend([entry(16, accelerator=other), entry(512)])
        found = buffer.nearest(layer(16), replace(MACHINE, name="renamed"), count=2)
        assert [neighbor.entry.workload.bound("C") for neighbor in found] == [512, 16]

    def test_costs_of_other_rules_are_begun_from_but_not_compared(self):
        """The same hardware is as near under any rules; of equally near entries those of the same rules come first."""
        elsewhere = MACHINE.counted_by("timeloop-2022")
        other = replace(MACHINE, peer_links=False)
        buffer = ReplayBuffer()
        mine = replace(entry(16), value=9.0)
        theirs = [replace(entry(16, seed, elsewhere), value=value) for seed, value in ((1, 2.0), (2, 1.0))]
        buffer.extend([entry(16, accelerator=other), *theirs, mine, entry(64, accelerator=elsewhere)])
        found = buffer.nearest(layer(16), MACHINE, count=9)
        values = [neighbor.entry.value for neighbor in found]
        assert values[:2] == [9.0, 1.0]
        assert [neighbor.same_rules for neighbor in found] == [True, False, False, True]
        assert [neighbor.same_accelerator for neighbor in found] == [True, True, True, False]
        assert sorted(found, key=lambda neighbor: neighbor.place) == found
        assert "found under timeloop-2022, this task counts as timeloop-2025" in buffer.remark(MACHINE)
        assert "found under timeloop-2025, this task counts as timeloop-2022" in buffer.remark(elsewhere)
        alone = ReplayBuffer()
        alone.extend([mine])
        assert alone.remark(MACHINE) == ""

    def test_entries_of_before_rules_had_names_are_of_the_first_rules(self, tmp_path, monkeypatch):
        to_dict = Accelerator.to_dict

        def as_before(machine):
            return {key: value for key, value in to_dict(machine).items() if key != "rules"}

        with monkeypatch.context() as patch:
            patch.setattr(Accelerator, "to_dict", as_before)
            ReplayBuffer(tmp_path / "old.buffer").extend([entry(16)])
        (found,) = ReplayBuffer(tmp_path / "old.buffer")
        assert found.accelerator == MACHINE.counted_by("timeloop-2022")

    def test_what_must_not_be_known_is_left_out(self):
        buffer = ReplayBuffer()
        buffer.extend([entry(16), entry(32)])
        found = buffer.nearest(layer(16), MACHINE, count=5, exclude=[layer(16, "another name")])
        assert [neighbor.entry.workload.bound("C") for neighbor in found] == [32]

    def test_other_objectives_and_depths_do_not_count(self):
        buffer = ReplayBuffer()
        buffer.extend([entry(16), entry(16, accelerator=catalog.accelerator("eyeriss_like"))])
        assert not buffer.nearest(layer(16), MACHINE, "energy")
        assert len(buffer.nearest(layer(16), MACHINE, count=5)) == 1

    def test_initial_mappings_are_members_of_the_space(self):
        buffer = ReplayBuffer()
        buffer.extend(entry(channels) for channels in (8, 64, 16))
        space = MapSpace(layer(24), MACHINE, ("tile", "order", "parallelism", "bypass"))
        batch = buffer.initial(space, count=3, similarity=editing_distance)
        assert len(batch) == 3
        assert space.contains(batch).all()
        assert len(ReplayBuffer().initial(space)) == 0
