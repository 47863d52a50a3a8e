"""Foreign text: what may be a name, how it is quoted, and how it comes out of every kind of file."""

from __future__ import annotations

import csv
import io
import json
import unicodedata
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, strategies as st

from mapgym.agents.experiment.definition.experiment import AgentEntry
from mapgym.agents.experiment.report.charts import Axis, Chart, Series, to_file
from mapgym.agents.experiment.report.markup import element
from mapgym.agents.files.mapping_file import write_mapping
from mapgym.agents.files.tables import Table
from mapgym.agents.files.text_tables import csv_text, markdown, markdown_paragraph
from mapgym.agents.studies.drawing import new_panels, save
from mapgym.errors import LONGEST_NAME, SpecificationError, positive_int, require_name, suggest
from mapgym.errors.text import QUOTED_CHARACTERS, harmful_character, printable, printable_lines, quoted
from mapgym.mapping import Mapping
from mapgym.spec.accelerator import Accelerator
from mapgym.spec.catalog import Layer, Network, network, workload
from mapgym.spec.levels import Mac, StorageLevel
from mapgym.spec.tensor import Tensor, parse_rank
from mapgym.spec.workload import Workload, matmul
from mapgym.system.yaml_loader import dump_yaml, load_yaml

HARMFUL = ("\x00", "\x07", "\t", "\n", "\r", "\x1b[31m", "\x7f", "\x85", "\x9b", "\u2028", "\u202e", "\ud800", "\uffff")
HARMLESS = ("a b", "conv1/Conv2D:0", "层", "слой", "é", "\U0001f600", "a|b", "=1+1", "[red]x[/red]", ":smile:", "$x^$")

any_text = st.text(st.characters(codec=None), max_size=30)


def is_name(text: str) -> bool:
    try:
        require_name(text, "it", "a")
    except SpecificationError:
        return False
    return True


names = st.one_of(
    any_text.filter(is_name),
    st.sampled_from(
        ["null", "true", "1e5", "09", "0x1f", "1:30", "-", "~", "*a", "&a", "#", "a: b", "yes", "2020-01-01"]
    ),
)


class TestQuoting:
    @given(st.one_of(any_text, st.integers(), st.binary(), st.lists(any_text), st.dictionaries(any_text, any_text)))
    def test_a_quoted_value_is_short_and_printable(self, value):
        text = quoted(value)
        assert len(text) <= QUOTED_CHARACTERS
        assert text.isprintable()

    def test_so_are_large_ones(self):
        for value in ("x" * 100_000, 10**5000, [["\x1b"] * 1000] * 1000, {"a" * 1000: {"\ud800": [10**5000]}}):
            assert len(quoted(value)) <= QUOTED_CHARACTERS
            assert quoted(value).isprintable()

    @given(any_text)
    def test_printable_text_is_printable_and_stays_what_it_is(self, text):
        assert printable(text).isprintable()
        assert printable(printable(text)) == printable(text)
        if text.isprintable():
            assert printable(text) == text

    def test_lines_stay_lines(self):
        assert printable_lines("a\n\x1bb\r") == "a\n\\x1bb\\r"

    @given(any_text)
    def test_messages_have_one_printable_line_of_bounded_length(self, text):
        assert str(SpecificationError(text)) == printable(text)

    def test_long_messages_are_cut(self):
        assert len(str(SpecificationError("x" * 100_000))) <= 2000
        assert len(suggest("x" * 100_000, ["y" * 100_000] * 100)) < 1000
        with pytest.raises(SpecificationError, match="a number of about 5,0"):
            positive_int(10**5000, "it")


class TestNames:
    @pytest.mark.parametrize(
        "bad", [*(f"a{part}b" for part in HARMFUL), "", " ", " a", "a ", "x" * (LONGEST_NAME + 1), 5, None]
    )
    @pytest.mark.parametrize(
        "make",
        [
            lambda name: matmul(" " if name == "" else name, M=2, K=2, N=2),
            lambda name: Tensor(name, ((("M", 1),),)),
            lambda name: Mac(name),
            lambda name: StorageLevel(name),
            lambda name: Accelerator(" " if name == "" else name, (StorageLevel("L"),), Mac()),
            lambda name: Network(name, "", (Layer("a", matmul(M=2, K=2, N=2)),)),
            lambda name: Network("net", "", (Layer(name, matmul(M=2, K=2, N=2)),)),
            lambda name: AgentEntry("random", name or " "),
        ],
        ids=["workload", "tensor", "mac", "level", "accelerator", "network", "layer", "label"],
    )
    def test_what_can_be_no_name_is_refused(self, make, bad):
        with pytest.raises(SpecificationError, match="name is") as caught:
            make(bad)
        assert str(caught.value).isprintable()
        assert len(str(caught.value)) < 400

    @pytest.mark.parametrize("name", [*HARMLESS, "x" * LONGEST_NAME])
    def test_everything_else_is_a_name(self, name):
        assert matmul(name, M=2, K=2, N=2).name == name

    @given(any_text)
    def test_what_is_harmful_is_said_by_unicode(self, text):
        categories = {unicodedata.category(character) for character in text}
        if harmful_character(text) is None:
            assert not categories & {"Cc", "Cs", "Zl", "Zp"}
        else:
            assert categories & {"Cc", "Cs", "Zl", "Zp", "Cf", "Cn"}

    @pytest.mark.parametrize("dim", ["", "1", "a b", "a+b", "2*a", "a\n", "a-b", "\x1b", "\ud800", "x" * 2000, 5])
    def test_a_dim_is_what_a_projection_can_say(self, dim):
        with pytest.raises(SpecificationError, match="has the dim"):
            Tensor("T", (((dim, 1),),))
        with pytest.raises(SpecificationError, match="has the dim"):
            Workload("w", (dim, "M"), (2, 2), (Tensor("T", ((("M", 1),),), is_output=True),))

    @given(st.from_regex(r"[^\W\d]\w*", fullmatch=True).filter(str.isidentifier))
    def test_every_dim_survives_its_projection(self, dim):
        layer = Workload("w", (dim,), (3,), (Tensor("T", (((dim, 2),),), is_output=True),))
        assert Workload.from_dict(layer.to_dict()) == layer

    def test_a_coefficient_of_thousands_of_digits_is_refused(self):
        with pytest.raises(SpecificationError, match=r"has a coefficient above 2\*\*53"):
            parse_rank("9" * 5000 + "*M", "it")

    def test_two_layers_of_one_name_are_refused(self):
        layer = Layer("a", matmul(M=2, K=2, N=2))
        with pytest.raises(SpecificationError, match="two layers 'a'"):
            Network("net", "", (layer, layer))


scalars = st.one_of(names, st.integers(-(10**300), 10**300), st.booleans(), st.none(), st.floats(allow_nan=False))
plain_data = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(names, inner, max_size=3)),
    max_leaves=8,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("text")


class TestFiles:
    @given(plain_data, st.sampled_from([None, True, False]))
    def test_yaml_reads_what_it_writes(self, folder, data, flow):
        file = folder / "data.yaml"
        file.write_text(dump_yaml([data], flow=flow), encoding="utf-8")
        assert load_yaml(file) == [data]

    @given(any_text.filter(lambda text: harmful_character(text) is None))
    def test_json_is_read_as_yaml_too(self, folder, text):
        file = folder / "data.json"
        file.write_text(json.dumps({"a": text}), encoding="utf-8")
        assert load_yaml(file) == {"a": text}

    @given(names, names, names, names, names)
    def test_a_mapping_survives_its_file(self, folder, layer, tensor, level, machine, mac):
        if level == mac:
            return
        tensors = (Tensor(tensor, ((("M", 1),),), is_output=True), Tensor(f"{tensor}.", ((("K", 1),),)))
        task = Workload(layer, ("M", "K"), (4, 6), tensors)
        hardware = Accelerator(machine, (StorageLevel(level, 64), StorageLevel(f"{level}.{mac}.")), Mac(mac))
        assert Workload.from_dict(json.loads(json.dumps(task.to_dict()))) == task
        file = folder / "task.yaml"
        file.write_text(dump_yaml({"task": task.to_dict(), "hardware": hardware.to_dict()}), encoding="utf-8")
        read = load_yaml(file)
        assert Workload.from_dict(read["task"]) == task
        assert Accelerator.from_dict(read["hardware"]) == hardware
        mapping = Mapping.trivial(task, hardware)
        write_mapping(file, mapping, f"{layer} on {machine}\r\x1b{tensor}\ud800\n\x85")
        assert Mapping.from_dict(load_yaml(file), task, hardware) == mapping

    @given(names, names)
    def test_every_layer_of_a_file_can_be_named(self, folder, name, layer):
        file = folder / "net.yaml"
        entry = {"type": "matmul", "M": 2, "K": 2, "N": 2}
        file.write_text(dump_yaml({"name": name, "layers": {layer: entry, f"{layer}.": entry}}), encoding="utf-8")
        assert [one.name for one in network(str(file)).layers] == [layer, f"{layer}."]
        assert workload(f"{file}:{layer}").name == f"{name}/{layer}"

    def test_a_colon_in_the_name_of_a_file(self, tmp_path):
        entry = {"type": "matmul", "M": 2, "K": 2, "N": 2}
        for name in ("a.yaml", "a.yaml:b.yaml"):
            (tmp_path / name).write_text(dump_yaml({"name": name, "layers": {"x": entry}}), encoding="utf-8")
        assert workload(f"{tmp_path}/a.yaml:x").name == "a.yaml/x"
        with pytest.raises(SpecificationError, match=r"has no layer 'b\.yaml:x'"):
            workload(f"{tmp_path}/a.yaml:b.yaml:x")
        (tmp_path / "a.yaml").unlink()
        assert workload(f"{tmp_path}/a.yaml:b.yaml:x").name == "a.yaml:b.yaml/x"


class TestTables:
    @given(st.lists(st.lists(any_text, min_size=2, max_size=2)))
    def test_no_cell_of_a_csv_is_a_formula(self, rows):
        read = list(csv.reader(io.StringIO(csv_text(rows))))
        assert len(read) == len(rows)
        for given_row, row in zip(rows, read, strict=True):
            for before, cell in zip(given_row, row, strict=True):
                assert cell.removeprefix("'") == printable(before).removeprefix("'")
                if len(cell) > 1 and cell.lstrip()[:1] in ("=", "@", "+", "-"):
                    float(cell)  # a number

    @pytest.mark.parametrize(
        ("cell", "written"),
        [
            ("=1+1", "'=1+1"),
            ("@SUM(A1)", "'@SUM(A1)"),
            ("+cmd|'/c calc'!A1", "'+cmd|'/c calc'!A1"),
            (" =1", "' =1"),
            ("-x", "'-x"),
            ("\t=1", "\\t=1"),
            ("＝1", "'＝1"),  # noqa: RUF001
            ("-1.5", "-1.5"),
            ("+1e-3", "+1e-3"),
            ("-", "-"),
            (-2.5, "-2.5"),
            (None, ""),
            ("a=b", "a=b"),
        ],
    )
    def test_what_is_written(self, cell, written):
        assert csv_text([[cell, 1]]) == f"{written},1\n"

    @pytest.mark.parametrize(
        ("text", "written"),
        [
            ("<img src=x onerror=alert(1)>", "&lt;img src=x onerror=alert(1)>"),
            ("[x](javascript:alert(1))", r"[x\](javascript:alert(1))"),
            ("![x][y]", r"![x\][y]"),
            ("<javascript:alert(1)>", "&lt;javascript:alert(1)>"),
            ("a|b", r"a\|b"),
            ("a`b`", r"a\`b\`"),
            ("pJ*cycles*", r"pJ\*cycles\*"),
            ("_a_ resnet_conv4", r"\_a\_ resnet_conv4"),
            ("&lt;b&gt; R&D", "&amp;lt;b&amp;gt; R&D"),
            ("1.2 [1.0, 1.3], <= 3 %", "1.2 [1.0, 1.3], <= 3 %"),
            ("a\nb\x1b", r"a\\nb\\x1b"),
        ],
    )
    def test_markdown_finds_no_markup(self, text, written):
        assert markdown(text) == written

    @pytest.mark.parametrize(
        ("text", "written"),
        [
            ("# x", r"\# x"),
            ("- x", r"\- x"),
            ("1. x", r"1\. x"),
            ("> x", r"\> x"),
            ("A-b 1. c", "A-b 1. c"),
            ("x", "x"),
        ],
    )
    def test_a_paragraph_is_no_block(self, text, written):
        assert markdown_paragraph(text) == written

    def test_studies_write_both_so(self):
        table = Table("a|b", "note", ("name", "EDP"), [["=1|<b>", -1.5], ["[x](y)", None]])
        assert table.to_csv() == "name,EDP\n'=1|<b>,-1.5\n[x](y),\n"
        assert table.to_markdown().splitlines()[4:] == [
            "| name | EDP |",
            "| --- | --- |",
            r"| =1\|&lt;b> | -1.5 |",
            r"| [x\](y) | - |",
        ]


class TestPictures:
    @given(any_text, any_text)
    def test_an_svg_is_well_formed_whatever_it_names(self, title, name):
        line = Series(name, 0, np.array([1.0, 2.0]), np.array([1.0, 2.0]))
        svg = to_file([Chart(title, Axis("x", 1.0, 2.0), Axis(name, 1.0, 2.0), [line])])
        assert not name or printable_lines(name) in set(ElementTree.fromstring(svg).itertext())

    def test_an_attribute_cannot_be_left(self):
        assert element("a", "x", title="\"'><script>\x1b") == '<a title="&quot;&#x27;&gt;&lt;script&gt;\\x1b">x</a>'

    def test_names_are_drawn_as_they_are(self, tmp_path):
        figure, panels = new_panels(1, 1, (2.0, 2.0))
        panels[0].plot([1.0, 10.0], [1.0, 10.0], label="$x^$ and $\\y$")
        panels[0].set(title="层 $\\frac$ $", xscale="log")
        panels[0].set_yticks([1.0], ["$^$ $"])
        panels[0].legend()
        save(figure, tmp_path / "x.png")
        assert (tmp_path / "x.png").stat().st_size > 1000
