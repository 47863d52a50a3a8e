"""The command line with streams of every kind, names of every kind, and files that are none."""

from __future__ import annotations

import csv
import dataclasses
import os
import signal
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from mapgym.agents import agent_names, make_agent
from mapgym.agents.base import agent_class
from mapgym.agents.commands.parsing import comma_separated
from mapgym.agents.experiment.definition.experiment_file import load_experiment
from mapgym.errors import SpecificationError
from mapgym.system.command_start import INTERRUPTED
from mapgym.system.yaml_loader import MOST_NODES, dump_yaml, load_yaml

NAMES = ("conv1/Conv2D:0", "a,b", "=1+1", "层 <img onerror>", "[red]x[/red]|`y`", "x" * 250)
LAYER = {"type": "matmul", "M": 4, "K": 4, "N": 2}
COMMAND = [sys.executable, "-c", "import sys; sys.argv[0] = 'mapgym'; from mapgym.agents.cli import main; main()"]


@pytest.fixture
def net(tmp_path) -> Path:
    path = tmp_path / "net.yaml"
    path.write_text(dump_yaml({"name": "сеть", "layers": dict.fromkeys(NAMES, LAYER)}), encoding="utf-8")
    return path


def refusal(answer) -> str:
    """Checks that an answer is one printable sentence and status 2; returns the sentence."""
    status, out, error = answer
    assert (status, out) == (2, "")
    (line,) = error.splitlines()
    assert line.startswith("mapgym: ")
    assert line.isprintable()
    return line


class TestStreams:
    @pytest.mark.parametrize("encoding", ["ascii", "cp1252", "latin-1", "utf-8"])
    def test_a_name_is_written_in_every_encoding(self, net, encoding):
        options = {"env": {**os.environ, "PYTHONIOENCODING": encoding}, "capture_output": True}
        done = subprocess.run([*COMMAND, "show", f"{net}:{NAMES[3]}", "tiny"], **options)
        assert done.returncode == 0, done.stderr
        shown = NAMES[3].encode(encoding, "backslashreplace")
        assert shown in done.stdout
        done = subprocess.run([*COMMAND, "show", f"{net}:{NAMES[3]}x", "tiny"], **options)
        assert done.returncode == 2
        assert b"has no layer" in done.stderr
        assert b"Traceback" not in done.stderr

    def test_closed_streams_are_no_mistake(self, tmp_path):
        script = 'exec "$@" <&- >&- 2>&-'
        target = tmp_path / "best.yaml"
        search = ("search", "toy/tiny_gemm", "tiny", "--samples", "5", "-o", target)
        assert subprocess.run(["sh", "-c", script, "sh", *COMMAND, *map(str, search)]).returncode == 0
        assert load_yaml(target)

    def test_a_full_device_is_said(self):
        with open("/dev/full", "w") as full:
            done = subprocess.run([*COMMAND, "list", "networks"], stdout=full, stderr=subprocess.PIPE, text=True)
        assert done.returncode == 2
        assert done.stderr.splitlines() == [
            "mapgym: no space left on device; check the path, its permissions and the free space"
        ]

    @pytest.mark.parametrize("command", [["list", "networks"], ["--help"], ["search", "--help"]])
    def test_a_reader_that_left_ends_the_command_quietly(self, command):
        process = subprocess.Popen([*COMMAND, *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        assert (process.stderr.read(), process.wait()) == ("", 141)
        process.stderr.close()

    def test_ctrl_c_while_modules_are_imported(self):
        # Gymnasium is imported after the first module of ours; there the process waits to be interrupted.
        script = (
            "import signal, sys, time\n"
            "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
            "class Slow:\n"
            "    def find_spec(self, name, path=None, target=None):\n"
            "        if name == 'gymnasium':\n"
            "            print('here', flush=True)\n"
            "            time.sleep(60)\n"
            "sys.meta_path.insert(0, Slow())\n"
            "sys.argv[0] = '/usr/bin/mapgym'\n"
            "import mapgym.agents.cli\n"
        )
        process = subprocess.Popen(
            [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "here\n"
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=60)
        assert (error, process.returncode) == ("", INTERRUPTED)

    def test_other_processes_keep_their_handler(self):
        script = "import signal; import mapgym; print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)"
        start = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
        done = subprocess.run([sys.executable, "-c", start + script], capture_output=True, text=True, check=True)
        assert done.stdout == "True\n"


class TestNames:
    @pytest.mark.parametrize("name", NAMES)
    def test_what_search_writes_show_reads(self, mapgym, net, tmp_path, name):
        target = tmp_path / "best.yaml"
        status, _, error = mapgym(
            "search", f"{net}:{name}", "tiny", "--agent", "random", "--samples", "9", "-o", target
        )
        assert status == 0, error
        status, out, error = mapgym("show", f"{net}:{name}", "tiny", target)
        assert status == 0, error
        assert "multiply-accumulate" in out

    def test_a_comma_goes_in_quotes(self, mapgym, net, tmp_path):
        workloads = f'"{net}:a,b",{net}:conv1/Conv2D:0'
        common = ("--agents", "random", "--accelerator", "tiny", "--samples", "5", "--seeds", "1", "-o", tmp_path / "o")
        status, out, error = mapgym("compare", "--workload", workloads, *common)
        assert status == 0, error
        assert "сеть/a,b on tiny" in out
        assert "сеть/conv1/Conv2D:0 on tiny" in out

    @pytest.mark.parametrize(
        ("text", "names"),
        [
            ("a, b", ["a", "b"]),
            ('"a,b",c', ["a,b", "c"]),
            (["a", "b,c"], ["a", "b", "c"]),
            ('n.yaml:a"b,c', ['n.yaml:a"b', "c"]),
            ('"a""b"', ['a"b']),
            ('"a', ["a"]),
        ],
    )
    def test_lists(self, text, names):
        assert comma_separated(text, "--it") == names

    @pytest.mark.parametrize("text", ["", ",", '""', "a\nb", "a" * 200_000])
    def test_what_is_no_list(self, text):
        with pytest.raises(SpecificationError, match="--it is"):
            comma_separated(text, "--it")

    def test_reports_of_an_experiment_escape_every_name(self, mapgym, net, tmp_path):
        experiment = tmp_path / "e.yaml"
        labels = ("=1+1", "@SUM(A1)", "<img src=x onerror=alert(1)>", "[x](javascript:alert(1))", ":smile: [red]")
        data = {
            "description": "<img onerror> [x](javascript:alert(1))",
            "tasks": {"workloads": [f"{net}:{name}" for name in NAMES[:5]], "accelerators": ["tiny"]},
            "agents": [{"agent": "random", "label": label} for label in labels],
            "seeds": 1,
            "budget": {"samples": 4},
        }
        experiment.write_text(dump_yaml(data), encoding="utf-8")
        folder = tmp_path / "o"
        status, out, error = mapgym("run", experiment, "-o", folder)
        assert status == 0, error
        assert ":smile: [red]" in out
        assert mapgym("report", folder)[0] == 0
        rows = list(csv.reader((folder / "summary.csv").read_text(encoding="utf-8").splitlines()))
        assert {f"'{label}" for label in labels[:2]} <= {row[6] for row in rows}
        page = (folder / "summary.md").read_text(encoding="utf-8")
        assert "<img" not in page
        assert "](" not in page.replace(r"\](", "")
        assert "<img" not in (folder / "report.html").read_text(encoding="utf-8")
        assert "=1+1" in set(ElementTree.parse(folder / "anytime.svg").getroot().itertext())

    @pytest.mark.parametrize("label", ["\x1b[31m", "a\nb", "\ud800", "x" * 5000])
    def test_labels_that_are_no_names(self, label):
        data = {
            "tasks": {"workloads": "toy/tiny_gemm", "accelerators": "tiny"},
            "agents": [{"agent": "random", "label": label}],
            "budget": {"samples": 4},
        }
        with pytest.raises(SpecificationError, match="label: name is"):
            load_experiment(data)


class TestLimits:
    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"seeds": 10**12}, "seeds: the experiment has 1000000000000 runs"),
            ({"seeds": 10**5000}, "seeds: the experiment has a number of about 5,0"),
            ({"seeds": list(range(1048576))}, "1048576 runs"),
            ({"agents": ["random"] * 20_000}, "agents has 20,000 entries"),
            ({"tasks": {"workloads": ["toy"] * 20_000, "accelerators": "tiny"}}, "workloads has 20,000 entries"),
            ({"tasks": {"workloads": "toy", "accelerators": ["tiny"] * 20_000}}, "accelerators has 20,000 entries"),
        ],
    )
    def test_an_experiment_of_absurd_size(self, change, message):
        data = {
            "tasks": {"workloads": "toy/tiny_gemm", "accelerators": "tiny"},
            "agents": ["random"],
            "budget": {"samples": 4},
        }
        with pytest.raises(SpecificationError, match=message) as caught:
            load_experiment(data | change)
        assert len(str(caught.value)) < 400

    def test_many_seeds_are_checked_in_one_go(self):
        data = {
            "tasks": {"workloads": "toy/tiny_gemm", "accelerators": "tiny"},
            "agents": ["random"],
            "budget": {"samples": 4},
            "seeds": 100_000,
        }
        assert len(load_experiment(data).seeds) == 100_000

    @pytest.mark.parametrize(
        ("text", "line", "problem"),
        [
            ('a: !!float "x"', 1, "'x' cannot be read as float"),
            ('a: 1\nb: !!bool "x"', 2, "'x' cannot be read as bool"),
            ('a: !!int "x"', 1, "'x' cannot be read as int"),
            ('a: !!timestamp "x"', 1, "the tag '!!timestamp'"),
            ("a: !!map [1]", 1, "the tag '!!map'"),
            ("a: !!seq {b: 1}", 1, "the tag '!!seq'"),
            ("a: !!str [1]", 1, "the tag '!!str'"),
            ("a: !!binary x", 1, "the tag '!!binary'"),
            ("a: !!set {b}", 1, "the tag '!!set'"),
            ("a: !!omap [b: 1]", 1, "the tag '!!omap'"),
            ("a: !!python/object/apply:os.system [ls]", 1, "the tag '!!python"),
            ("a: !own b", 1, "the tag '!own'"),
            ('a: 1\nb: "\\U00110000"', 2, "not valid YAML"),
            ('a: 1\n"\\ud800": 1', 2, "half a character"),
            ("a: " + "9" * 5000, 1, "too long"),
            ("a: " + "[" * 5000, 1, "nested more than 100 deep"),
            ("- " * 200 + "a", 1, "nested more than 100 deep"),
            ("a: &a [*a]", 1, "an alias within what it stands for"),
            ("a: &a {b: *a}", 1, "an alias within what it stands for"),
            ('1: a\n"1": b', 2, "duplicate key '1'"),
            ("%YAML " + "9" * 5000 + ".1\n---\na", 1, "not valid YAML"),
            ("a: *" + "x" * 5000, 1, "undefined alias"),
        ],
    )
    def test_yaml_that_is_no_plain_data(self, tmp_path, text, line, problem):
        file = tmp_path / "a.yaml"
        file.write_text(text, encoding="utf-8")
        with pytest.raises(SpecificationError, match=rf"a\.yaml, line {line}: .*{problem}") as caught:
            load_yaml(file)
        assert len(str(caught.value)) < 500

    def test_aliases_count_as_what_they_stand_for(self, tmp_path):
        file = tmp_path / "a.yaml"
        lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
        lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 5)]
        file.write_text("\n".join(lines), encoding="utf-8")
        assert load_yaml(file)["a4"][9][9][9][9] == ["x"] * 10
        lines.append("a5: [*a4, *a4, *a4]")
        file.write_text("\n".join(lines), encoding="utf-8")
        with pytest.raises(SpecificationError, match=rf"line 6: .*more than {MOST_NODES:,} values"):
            load_yaml(file)
        deep = ["b0: &b0 [x]", *(f"b{i}: &b{i} [*b{i - 1}]" for i in range(1, 120))]
        file.write_text("\n".join(deep), encoding="utf-8")
        with pytest.raises(SpecificationError, match=r"line 9\d: .*nested more than 100 deep"):
            load_yaml(file)

    def test_plain_tags_are_plain_data(self, tmp_path):
        file = tmp_path / "a.yaml"
        file.write_text('a: !!float 1\nb: !!str 1\nc: !!int "7"\nd: !!map {e: !!seq [1]}\n"\\ud83d\\ude00": 1\n')
        assert load_yaml(file) == {"a": 1.0, "b": "1", "c": 7, "d": {"e": [1]}, "\U0001f600": 1}

    def test_a_large_file_is_not_read(self, tmp_path):
        file = tmp_path / "a.yaml"
        with file.open("wb") as huge:
            huge.truncate(2**40)
        with pytest.raises(SpecificationError, match=r"a\.yaml: is larger than 16 MiB"):
            load_yaml(file)

    @pytest.mark.parametrize("name", agent_names())
    def test_parameters_are_finite_numbers(self, name):
        for parameter, value in dataclasses.asdict(agent_class(name)()).items():
            if isinstance(value, int | float) and not isinstance(value, bool):
                for bad in ("nan", "9" * 5000, "x", ""):
                    with pytest.raises(SpecificationError, match=f"{parameter} is"):
                        make_agent(name, **{parameter: bad})
                if value != float("inf"):
                    with pytest.raises(SpecificationError, match=f"{parameter} is 'inf'; give"):
                        make_agent(name, **{parameter: "inf"})
