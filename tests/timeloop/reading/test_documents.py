"""Files for Timeloop put together: folders, tags, merges, includes and templates, and what is refused of them."""

from __future__ import annotations

import pytest

from mapgym.errors import SpecificationError
from mapgym.timeloop.reading.documents import file_of, read_documents, read_text_document, tag_of


def write(folder, **files):
    for name, text in files.items():
        path = folder / name.replace("__", "/").replace("_dot_", ".")
        path = path if path.suffix else path.with_suffix(".yaml")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def value_of(documents, name):
    section = documents.one(name)
    assert section is not None
    return section.value


def test_sections_of_several_files_and_a_folder(tmp_path):
    write(
        tmp_path,
        arch="architecture: {version: 0.4}\n",
        parts__one="compound_components: {classes: [a]}\n",
        parts__two="components: {classes: [b]}\nfigures: 3\n",
        parts__list="[1, 2]\n",
    )
    documents = read_documents([tmp_path / "arch.yaml", tmp_path / "parts"])
    assert [section.key for section in documents.sections] == ["architecture", "compound_components", "components"]
    assert [section.value["classes"] for section in documents.every("components")] == [["a"], ["b"]]
    assert [str(each).split(": ", 1)[1] for each in documents.ignored] == [
        "the whole file: it is no mapping with sections of Timeloop",
        "figures: no section of Timeloop is called so",
    ]


def test_two_files_with_one_section_are_named(tmp_path):
    write(tmp_path, a="problem: {}\n", b="problem: {}\n")
    with pytest.raises(SpecificationError, match=r"a\.yaml and .*b\.yaml both have the section 'problem'; name one"):
        read_documents(tmp_path).one("problem")


def test_tags_become_plain_mappings_that_know_their_tag_and_file():
    documents = read_text_document("architecture:\n  nodes:\n  - !Component {name: A}\n  - !Nothing\n", "x.yaml")
    nodes = value_of(documents, "architecture")["nodes"]
    assert nodes == [{"name": "A"}, {}]
    assert [tag_of(node) for node in nodes] == ["!Component", "!Nothing"]
    assert file_of(nodes[0]) == "x.yaml"


def test_keys_are_text_and_scalars_those_of_yaml_1_2():
    problem = value_of(read_text_document("problem: {N: 1, Y: 2, 3: no, t: 1e-9, w: 010}\n", "x.yaml"), "problem")
    assert problem == {"N": 1, "Y": 2, "3": "no", "t": 1e-9, "w": 10}


def test_shallow_and_deep_merges():
    documents = read_text_document(
        "base_ignore: &base {a: {x: 1, y: 2}, l: [1], z: 9}\n"
        "problem: {<<: *base, a: {x: 5}}\n"
        "mapping: {<<<: *base, a: {x: 5}, l: [0]}\n"
        "mapper: {<<<: *base, a: !nomerge {x: 5}}\n",
        "x.yaml",
    )
    assert value_of(documents, "problem") == {"a": {"x": 5}, "l": [1], "z": 9}
    assert value_of(documents, "mapping") == {"a": {"x": 5, "y": 2}, "l": [0, 1], "z": 9}
    assert value_of(documents, "mapper") == {"a": {"x": 5}, "l": [1], "z": 9}


def test_templates_include_files_at_a_place(tmp_path):
    write(
        tmp_path,
        top="{{add_to_path(cwd() ~ '/inputs')}}\n"
        "architecture: {{include('arch.yaml', 'architecture')}}\n"
        "components: {classes: {{include_all('parts/*.yaml', 'components.classes')}}}\n"
        "variables: {B: {{bits|default(8)}}, deep: {{path_exists('nothing')|lower}}}\n"
        "{{include_text('text.yaml')}}\n",
        inputs__arch="architecture: {nodes: [{% for i in range(2) %}{name: L{{i}}},{% endfor %}]}\n",
        inputs__text="mapper: {victory: {{3 * 7}}}\n",
        parts__a="components: {classes: [a]}\n",
        parts__b="components: {classes: [b]}\n",
    )
    documents = read_documents(tmp_path / "top.yaml", {"bits": 16})
    assert value_of(documents, "architecture") == {"nodes": [{"name": "L0"}, {"name": "L1"}]}
    assert value_of(documents, "components") == {"classes": [["a"], ["b"]]}
    assert value_of(documents, "variables") == {"B": 16, "deep": False}
    assert value_of(documents, "mapper") == {"victory": 21}
    assert file_of(value_of(documents, "architecture")).endswith("inputs/arch.yaml")


def test_tags_include_files(tmp_path):
    write(tmp_path, top="problem: !include p.yaml\nmapper: !includedir parts\n", p="{a: 1}\n", parts__x="{b: 2}\n")
    documents = read_documents(tmp_path / "top.yaml")
    assert (value_of(documents, "problem"), value_of(documents, "mapper")) == ({"a": 1}, [{"b": 2}])


def test_a_well_known_file_need_not_be_there(tmp_path):
    write(tmp_path, layer="{{include_text('../problem_base.yaml')}}\nproblem: {<<<: *problem_base, instance: {C: 3}}\n")
    documents = read_documents(tmp_path / "layer.yaml")
    assert value_of(documents, "problem") == {"version": 0.4, "shape": "grouped-cnn", "instance": {"C": 3}}
    assert "the grouped convolution" in str(documents.ignored)


def test_an_anchor_may_be_used_again():
    problem = value_of(read_text_document("problem: {a: &x 1, b: *x, c: &x 2, d: *x}\n", "x.yaml"), "problem")
    assert problem == {"a": 1, "b": 1, "c": 2, "d": 2}


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"top": "problem: {a: 1"}, "not valid YAML|stops in the middle"),
        ({"top": "problem: {a: 1, a: 2}"}, "duplicate key 'a'"),
        ({"top": "problem: {[1]: 2}"}, "a key must be text"),
        ({"top": "- 1"}, "holds list at its top; give a mapping"),
        ({"top": "problem: !include gone.yaml"}, "includes 'gone.yaml', and there is no such file"),
        ({"top": "problem: !include top.yaml"}, "includes itself"),
        ({"top": "problem: !include b.yaml", "b": "!include top.yaml"}, "includes itself, by way of"),
        ({"top": "problem: {{include('b.yaml')}}", "b": "x: {{include('top.yaml')}}"}, "includes itself, by way of"),
        ({"top": "{{include_text('top.yaml')}}"}, "includes itself"),
        ({"top": "problem: {{include('b.yaml', 'x.y')}}", "b": "x: 1"}, "has no 'x.y'"),
        ({"top": "problem: {{include('[bc].yaml')}}", "b": "x: 1", "c": "x: 1"}, "finds 2 files"),
        ({"top": "problem: {{nothing}}"}, "needs a value .*'nothing' is undefined.*--define"),
        ({"top": "problem: {% if %}"}, "line 1: not a valid template"),
        ({"top": "problem: {{''.__class__.__mro__}}"}, "template"),
        ({"top": "problem: {{1 // 0}}"}, "cannot be filled in"),
        ({"top": "problem: {{cwd.__globals__}}"}, "template"),
        (
            {"top": "{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}"},
            "rounds of its loops",
        ),
        ({"top": "{% macro m() %}{{m()}}{% endmacro %}{{m()}}"}, "template"),
        ({"top": "problem: {{'a' * 10000000}}"}, "more than 100,000 values"),
        ({"top": "problem: {{9 ** 99999}}"}, "a power above 64"),
        ({"top": "problem: !mapgym-loaded 7"}, "is not for files"),
        ({"top": "problem: {<<: 3}"}, "<< is 3; give a mapping to merge"),
    ],
)
def test_what_cannot_be_put_together_is_said_in_one_sentence(tmp_path, files, says):
    write(tmp_path, **files)
    with pytest.raises(SpecificationError, match=says) as error:
        read_documents(tmp_path / "top.yaml")
    assert str(tmp_path) in str(error.value)


def test_missing_files(tmp_path):
    with pytest.raises(SpecificationError, match="there is no such file"):
        read_documents(tmp_path / "gone.yaml")
    with pytest.raises(SpecificationError, match="no file that ends in"):
        read_documents(tmp_path)
    with pytest.raises(SpecificationError, match="no files for Timeloop are given"):
        read_documents([])
