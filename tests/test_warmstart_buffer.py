"""The replay buffer: what it finds, and what becomes of it when writers die and files are damaged."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace

import numpy as np
import pytest

from mapgym import catalog
from mapgym.errors import SpecificationError
from mapgym.mapping import Mapping
from mapgym.mapspace import MapSpace
from mapgym.warmstart import Entry, ReplayBuffer, editing_distance
from mapgym.workload import conv2d

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


def test_names_may_hold_anything(path):
    odd = replace(entry(8), workload=layer(8, "a\tname\nof\\two lines"))
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


class TestDamage:
    def write(self, path) -> bytes:
        ReplayBuffer(path).extend(entry(channels) for channels in (8, 16, 32))
        return path.read_bytes()

    def test_every_cut_leaves_the_complete_entries(self, path):
        data = self.write(path)
        ends = [match.end() for match in re.finditer(rb"\n", data)]
        for cut in [*range(0, len(data), 97), *(end - 1 for end in ends), *ends]:
            path.write_bytes(data[:cut])
            complete = sum(end <= cut for end in ends)
            buffer = ReplayBuffer(path)
            # The header, a structure and an accelerator come first. A line without its end is complete if all of it
            # is there.
            assert len(buffer) in (max(0, complete - 3), max(0, complete - 2))
            buffer.extend([entry(64)])
            again = ReplayBuffer(path)
            assert [e.workload.bound("C") for e in again][-1] == 64
            assert len(again) == len(buffer)

    def test_an_edited_line_is_named_and_set_aside(self, path):
        data = self.write(path)
        lines = data.split(b"\n")
        lines[4] = lines[4].replace(b"edp", b"EDP")
        path.write_bytes(b"\n".join(lines))
        buffer = ReplayBuffer(path)
        assert [e.workload.bound("C") for e in buffer] == [8, 32]
        assert [(damage.line, damage.why) for damage in buffer.damaged] == [
            (5, "the checksum does not fit: the line was cut off or edited")
        ]
        aside = buffer.repair()
        assert aside is not None
        assert aside.read_bytes() == lines[4] + b"\n"
        assert len(ReplayBuffer(path)) == 2
        assert not ReplayBuffer(path).damaged

    def test_entries_without_their_definition_are_damage(self, path):
        lines = self.write(path).split(b"\n")
        path.write_bytes(b"\n".join([lines[0], *lines[2:]]))
        buffer = ReplayBuffer(path)
        assert len(buffer) == 0
        assert {damage.why for damage in buffer.damaged} == {"what it refers to is defined in no good line before it"}

    def test_other_files_and_versions_are_refused(self, path):
        path.write_bytes(self.write(path).replace(b"buffer\t1", b"buffer\t9", 1))
        with pytest.raises(SpecificationError, match="of version '9', this is version 1"):
            ReplayBuffer(path)
        path.write_text("hello\nworld\n")
        with pytest.raises(SpecificationError, match="is not a replay buffer"):
            ReplayBuffer(path)
        with pytest.raises(SpecificationError, match="is a folder; give the path of a replay buffer"):
            ReplayBuffer(path.parent)

    def test_nothing_in_a_file_is_executed(self, path):
        self.write(path)
        with path.open("ab") as file:
            file.write(b"cos\nsystem\n(S'false'\ntR.\n")
        assert len(ReplayBuffer(path)) == 3


WRITER = textwrap.dedent("""
    import sys
    sys.path.insert(0, {tests!r})
    from test_warmstart_buffer import ReplayBuffer, entry
    buffer, one = ReplayBuffer({path!r}), entry({channels})
    for count in range({count}):
        buffer.extend([one] * 20)
        print(20 * (count + 1), flush=True)
""")


def start_writer(path, channels: int, count: int) -> subprocess.Popen:
    code = WRITER.format(path=str(path), channels=channels, count=count, tests=__file__.rpartition("/")[0])
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)


def test_a_killed_writer_loses_nothing_that_was_complete(path):
    with start_writer(path, 8, 1_000_000) as writer:
        assert writer.stdout is not None
        for _ in range(5):
            writer.stdout.readline()
        time.sleep(0.05)
        writer.send_signal(signal.SIGKILL)
        said = [int(line) for line in writer.stdout.read().split()] or [100]
    buffer = ReplayBuffer(path)
    assert len(buffer) >= max(said)
    assert len(buffer.damaged) <= 1
    assert not [*buffer.problems()]


def test_two_writers_do_not_mix_their_lines(path):
    writers = [start_writer(path, channels, 25) for channels in (8, 16)]
    for writer in writers:
        writer.communicate(timeout=120)
        assert writer.returncode == 0
    buffer = ReplayBuffer(path)
    assert len(buffer) == 2 * 25 * 20
    assert not buffer.damaged
