"""Variants of an accelerator, and the order in which their layers are searched."""

from __future__ import annotations

import pytest

from mapgym.agents.studies.network.layer_search import SearchSettings, most_similar
from mapgym.agents.studies.network.sweep import Sweep, area_of, make_variants, on_front, read_choice
from mapgym.errors import SpecificationError
from mapgym.mapspace.entries import AXES
from mapgym.spec import catalog

TINY = catalog.accelerator("tiny")
SETTINGS = SearchSettings(AXES, "edp", "random", 20, 0)


def choices(*texts):
    return [read_choice(text, TINY) for text in texts]


def test_variants_are_all_combinations():
    variants = make_variants(TINY, choices("Buf.capacity_words=256,512", "peer_links=true,false", "MAC.energy_pj=2.5"))
    assert [variant.label for variant in variants] == [
        "Buf.capacity_words=256, peer_links=true, MAC.energy_pj=2.5",
        "Buf.capacity_words=256, peer_links=false, MAC.energy_pj=2.5",
        "Buf.capacity_words=512, peer_links=true, MAC.energy_pj=2.5",
        "Buf.capacity_words=512, peer_links=false, MAC.energy_pj=2.5",
    ]
    machines = [variant.accelerator for variant in variants]
    assert [machine.levels[1].capacity_words for machine in machines] == [256, 256, 512, 512]
    assert [machine.peer_links for machine in machines] == [True, False, True, False]
    assert {machine.mac.energy_pj for machine in machines} == {2.5}
    assert {machine.name for machine in machines} == {"tiny"}


def test_nothing_stands_for_no_limit():
    (variant,) = make_variants(TINY, choices("Buf.capacity_words=null"))
    assert variant.accelerator.levels[1].capacity_words is None


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["Buf.capacity_words"], "is no LEVEL.FIELD=VALUE,VALUE"),
        (["Buf.capacity_words="], "is no LEVEL.FIELD=VALUE,VALUE"),
        (["Buff.capacity_words=1"], "there is no 'Buff' in 'tiny'; did you mean 'Buf'"),
        (["Buf.capacity_word=64"], "Buf.capacity_word=64: .*did you mean 'capacity_words'"),
        (["Buf.capacity_words=64,64"], "is given a value twice"),
        (["Buf.capacity_words=64,x"], "Buf.capacity_words=x: .*capacity_words"),
        (["Buf.capacity_words=-1"], "Buf.capacity_words=-1: "),
        (["Buf.capacity_words=[1"], "cannot be read|are"),
        (["Buf.name=A,B"], "'name' cannot be varied"),
        (["levels=1"], "'levels' cannot be varied"),
        (["Buf.capacity_words=64", "Buf.capacity_words=128"], "is given twice"),
        (["Buf.capacity_words=" + ",".join(map(str, range(1, 1200)))], "combinations are too many"),
    ],
)
def test_mistakes_are_one_sentence(texts, message):
    with pytest.raises(SpecificationError, match=message) as error:
        make_variants(TINY, choices(*texts))
    assert str(error.value).startswith("--set: ")


def test_cells_come_after_what_they_begin_from():
    chosen = choices("Buf.capacity_words=256,512", "RF.capacity_words=32,64")
    sweep = Sweep(catalog.network("toy"), make_variants(TINY, chosen), chosen, SETTINGS)
    cells, names = sweep.cells(), set()
    assert len(cells) == 4 * len(sweep.network.layers)
    for cell in cells:
        assert set(cell.needs) <= names
        names.add(cell.name)
    last = cells[-len(sweep.network.layers)]
    layer = sweep.network.layers[0].name
    # Beside it lie the variants with one value before its own.
    assert last.needs == (
        f"Buf.capacity_words=512, RF.capacity_words=32: toy/{layer}",
        f"Buf.capacity_words=256, RF.capacity_words=64: toy/{layer}",
    )
    # A source is on the hardware of its variant.
    assert [source.accelerator.levels[1].capacity_words for source in last.compute.sources] == [512, 256]


def test_the_front_by_hand():
    assert on_front([(1, 5), (2, 4), (2, 5), (3, 3), (3, 3), (4, 1)]) == [True, True, False, True, True, True]


def test_no_area_without_areas():
    assert area_of(TINY) is None


def test_the_most_similar_layer_is_itself():
    layers = catalog.network("resnet18").layers
    assert most_similar(layers[4], layers, 1) == [layers[4]]
    assert len(most_similar(layers[4], layers[:3])) == 3
    assert most_similar(layers[0], []) == []
