"""How kernels are compiled and cached; the cache leans on internals of Numba that these tests watch."""

from __future__ import annotations

import importlib.util
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from numba import config
from numba.core.caching import NullCache

from mapgym.compilation import cache as kernel_cache, decorators as compilation
from mapgym.cost import CostModel
from mapgym.cost.dense.price_kernels import price_batch
from mapgym.mapping.mapping import ARRAYS
from mapgym.mapspace import MapSpace
from mapgym.spec import catalog
from places import REPOSITORY

INNER = """
from mapgym.compilation import kernel

STEP = 1

@kernel
def inner(values):
    return values[0] + STEP
"""
OUTER = """
from mapgym.compilation import kernel
from kernels_inner import inner

@kernel
def outer(values):
    return 2 * inner(values)
"""


@pytest.fixture
def kernels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], ModuleType]:
    """A function that imports two modules of a user, one of which calls a kernel of the other, as a new process would.

    They have a cache of their own.
    """
    (tmp_path / "kernels_inner.py").write_text(INNER)
    (tmp_path / "kernels_outer.py").write_text(OUTER)
    cache = tmp_path / "cache"
    cache.mkdir(mode=0o700)
    monkeypatch.setattr(config, "CACHE_DIR", str(cache))
    monkeypatch.setattr(kernel_cache._Warning, "made", False)
    monkeypatch.setattr(compilation._Announcement, "made", True)
    kernel_cache._danger.cache_clear()

    def load(name: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(name, tmp_path / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, module)
        # Of the source, not of the .pyc: two edits within a second and of one length look alike.
        exec(compile((tmp_path / f"{name}.py").read_text(), str(tmp_path / f"{name}.py"), "exec"), vars(module))
        return module

    def load_both() -> ModuleType:
        load("kernels_inner")
        return load("kernels_outer")

    return load_both


def price(kernels: Callable[[], ModuleType], number: int = 5) -> tuple[int, bool]:
    """What ``outer`` says, and whether it came from the cache."""
    outer = kernels().outer
    result = outer(np.array([number]))
    return result, bool(outer.stats.cache_hits)


SLOW = (
    """
from mapgym.compilation import kernel

@kernel
def slow(values):
    total = 0
    for i in range(len(values)):
"""
    + "".join(f"        total += values[i] * {n} if values[i] > {n} else total // {n + 1}\n" for n in range(200))
    + """
    return total

import sys, time, numpy as np
print("ready", flush=True)
sys.stdin.readline()
slow(np.arange(3))
print(sum(slow.stats.cache_hits.values()), sum(slow.stats.cache_misses.values()))
"""
)


def test_of_two_processes_at_once_one_compiles(tmp_path: Path) -> None:
    (tmp_path / "slow_kernel.py").write_text(SLOW)
    cache = tmp_path / "cache"
    cache.mkdir(mode=0o700)
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(cache), "PYTHONPATH": os.pathsep.join(sys.path)}
    processes = [
        subprocess.Popen(
            [sys.executable, "slow_kernel.py"],
            cwd=tmp_path,
            env=environment,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for _ in range(2)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    found = sorted(process.communicate(timeout=120)[0].split() for process in processes)
    assert found == [["0", "1"], ["1", "0"]]


def test_a_kernel_is_compiled_once(kernels: Callable[[], ModuleType]) -> None:
    assert price(kernels) == (12, False)
    assert price(kernels) == (12, True)


@pytest.mark.parametrize(
    ("file", "before", "after", "result"),
    [
        ("kernels_inner.py", "STEP = 1", "STEP = 2", 14),
        ("kernels_inner.py", "values[0] + STEP", "values[0] - STEP", 8),
        ("kernels_outer.py", "2 * inner", "3 * inner", 18),
    ],
)
def test_an_edit_anywhere_below_a_kernel_is_compiled(
    kernels: Callable[[], ModuleType], tmp_path: Path, file: str, before: str, after: str, result: int
) -> None:
    price(kernels)
    path = tmp_path / file
    times = path.stat()
    path.write_text(path.read_text().replace(before, after))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert price(kernels) == (result, False)
    assert price(kernels) == (result, True)


def test_fields_that_change_places_are_compiled(kernels: Callable[[], ModuleType], tmp_path: Path) -> None:
    fields = "first: object\n    second: object\n"
    code = f"""
from typing import NamedTuple
from mapgym.compilation import kernel

class Pair(NamedTuple):
    {fields}
@kernel
def inner(pairs):
    return pairs[0].first[0]
"""
    numbers = np.array([1]), np.array([2])
    (tmp_path / "kernels_inner.py").write_text(code)
    kernels()
    inner = sys.modules["kernels_inner"]
    assert inner.inner((inner.Pair(*numbers),)) == 1
    (tmp_path / "kernels_inner.py").write_text(code.replace(fields, "second: object\n    first: object\n"))
    kernels()
    inner = sys.modules["kernels_inner"]
    assert inner.inner((inner.Pair(*numbers),)) == 2


def test_an_edit_that_no_kernel_sees_compiles_nothing(kernels: Callable[[], ModuleType], tmp_path: Path) -> None:
    price(kernels)
    (tmp_path / "kernels_inner.py").write_text(INNER + "\nOTHER = 7\n\ndef other():\n    return OTHER\n")
    assert price(kernels) == (12, True)


def test_settings_that_change_machine_code_do_not_share_it(
    kernels: Callable[[], ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    price(kernels)
    monkeypatch.setattr(config, "BOUNDSCHECK", int(not config.BOUNDSCHECK))
    assert price(kernels) == (12, False)


def test_an_edit_of_the_package_is_compiled(tmp_path: Path) -> None:
    for folder in ("mapgym", "agents", "envs_config"):
        shutil.copytree(REPOSITORY / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    code = (
        "import numpy as np; from mapgym.mapspace.encoding_kernels import _rank_order as rank; "
        "print(rank(np.array([[[1, 0]]], np.int8), np.ones((1, 2), np.bool_), 0, 0))"
    )
    module = tmp_path / "mapgym" / "mapspace" / "encoding_kernels.py"
    before = run(code, tmp_path, NUMBA_CACHE_DIR=str(tmp_path / "cache"))
    source = module.read_text()
    assert source.count("    return rank\n") == 1
    module.write_text(source.replace("    return rank\n", "    return rank + 1000\n"))
    after = run(code, tmp_path, NUMBA_CACHE_DIR=str(tmp_path / "cache"))
    assert (before.stdout, after.stdout) == ("1\n", "1001\n"), after.stderr


def test_stamps_do_not_vary_between_processes() -> None:
    code = (
        "from mapgym.compilation import cache; from mapgym.cost.dense.price_kernels import price_batch as f; "
        "print(cache.stamp(f))"
    )
    texts = {run(code, PYTHONHASHSEED=seed).stdout for seed in ("1", "2")}
    assert len(texts) == 1
    assert len(texts.pop()) == 65


def _other_entry(path: Path) -> None:
    """The entry of another kernel, sound as it is."""
    other = next(other for other in path.parent.glob("*" + path.suffix) if other.name != path.name)
    shutil.copy(other, path)


def _unreadable(path: Path) -> None:
    path.chmod(0)


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 16
    path.write_bytes(data)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "gone": Path.unlink,
    "empty": lambda path: path.write_bytes(b""),
    "cut off": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "cut off at the end": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"x"),
    "one bit": _flip,
    "random": lambda path: path.write_bytes(np.random.default_rng(1).bytes(5000)),
    "text": lambda path: path.write_text("no such luck"),
    "another pickle": lambda path: path.write_bytes(pickle.dumps({"a": [1, 2, 3]})),
    "a pickle of bytes": lambda path: path.write_bytes(pickle.dumps(b"x" * 100)),
    "an index of something else": lambda path: path.write_bytes(pickle.dumps("0") + pickle.dumps((1, 2))),
    "another kernel": _other_entry,
    "unreadable": _unreadable,
    "a folder": _folder,
}


@pytest.mark.parametrize("kind", DAMAGES)
@pytest.mark.parametrize("suffix", [".nbi", ".nbc"])
def test_a_damaged_entry_counts_as_absent_and_is_written_anew(
    kernels: Callable[[], ModuleType], tmp_path: Path, capsys: pytest.CaptureFixture[str], suffix: str, kind: str
) -> None:
    price(kernels)
    files = [*(tmp_path / "cache").rglob("*" + suffix)]
    assert len(files) == 2
    if kind == "another kernel":
        files = [path for path in files if "outer" in path.name]
    for path in files:
        DAMAGES[kind](path)
    readable = kind == "longer" or (kind == "unreadable" and os.geteuid() == 0)
    assert price(kernels) == (12, readable)
    assert price(kernels) == (12, kind != "a folder")
    err = capsys.readouterr().err
    assert err.count("\n") == (kind == "a folder"), err


def test_bits_flipped_at_random_never_matter(kernels: Callable[[], ModuleType], tmp_path: Path) -> None:
    price(kernels)
    rng = np.random.default_rng(7)
    for _ in range(8):
        for path in (tmp_path / "cache").rglob("*.nb?"):
            data = bytearray(path.read_bytes())
            data[rng.integers(len(data))] ^= 1 << rng.integers(8)
            path.write_bytes(data)
        assert price(kernels)[0] == 12


def test_a_cache_that_cannot_be_written_is_no_cache(
    kernels: Callable[[], ModuleType], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(kernel_cache._SealedFiles, "_save_data", refuse)
    assert price(kernels) == (12, False)
    assert price(kernels) == (12, False)
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "no space left on device" in err
    assert "NUMBA_CACHE_DIR" in err


def test_a_full_disk_is_no_cache(tmp_path: Path) -> None:
    code = (
        "import resource; from mapgym.compilation.random_kernels import next_below as f; import numpy as np; "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100)); print(f(np.ones(1, np.uint64), 1))"
    )
    done = run(code, NUMBA_CACHE_DIR=str(tmp_path / "cache"))
    assert (done.returncode, done.stdout) == (0, "0\n"), done.stderr
    assert done.stderr.count("compiled kernels are not kept") == 1
    assert "Traceback" not in done.stderr


def test_nowhere_to_write_is_no_cache(kernels: Callable[[], ModuleType], monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locator(*arguments: Any) -> Any:
        raise RuntimeError("no locator available")

    monkeypatch.setattr(kernel_cache._KernelCache, "__init__", no_locator)
    outer = kernels().outer
    assert outer(np.array([5])) == 12
    assert isinstance(outer._cache, NullCache)


class TestFoldersOfOthers:
    """What is kept in a folder is executed, so nobody else may write there."""

    def cache(self, tmp_path: Path) -> Path:
        return next((tmp_path / "cache").iterdir())

    def refused(self, kernels: Callable[[], ModuleType], capsys: pytest.CaptureFixture[str], reason: str) -> None:
        kernel_cache._danger.cache_clear()
        before = [(path, path.stat().st_mtime_ns) for path in Path(config.CACHE_DIR).rglob("*.nb?")]
        assert price(kernels) == (12, False)
        err = capsys.readouterr().err
        assert err.count("\n") == 1, err
        assert reason in err
        assert "NUMBA_CACHE_DIR" in err
        assert before == [(path, path.stat().st_mtime_ns) for path in Path(config.CACHE_DIR).rglob("*.nb?")]

    @pytest.mark.parametrize("mode", [0o777, 0o1777, 0o707, 0o702])
    def test_all_can_write(self, kernels: Any, tmp_path: Path, capsys: Any, mode: int) -> None:
        price(kernels)
        self.cache(tmp_path).chmod(mode)
        self.refused(kernels, capsys, "all users can write")

    def test_all_can_exchange_the_folder(self, kernels: Any, tmp_path: Path, capsys: Any) -> None:
        price(kernels)
        (tmp_path / "cache").chmod(0o777)
        self.refused(kernels, capsys, "all users can write")
        # Where nobody can move what is another's, as in /tmp, that is harmless.
        (tmp_path / "cache").chmod(0o1777)
        kernel_cache._danger.cache_clear()
        assert price(kernels) == (12, True)

    @pytest.mark.skipif(os.geteuid() != 0, reason="only the superuser can give folders away")
    @pytest.mark.parametrize("depth", [0, 1])
    def test_it_belongs_to_another_user(self, kernels: Any, tmp_path: Path, capsys: Any, depth: int) -> None:
        price(kernels)
        os.chown((self.cache(tmp_path), tmp_path / "cache")[depth], 12345, -1)
        self.refused(kernels, capsys, "belongs to another user")

    @pytest.mark.skipif(os.geteuid() != 0, reason="only the superuser can give folders away")
    def test_a_group_can_write(self, kernels: Any, tmp_path: Path, capsys: Any) -> None:
        price(kernels)
        folder = self.cache(tmp_path)
        folder.chmod(0o775)
        # The group of this user alone, as many systems make one for everyone.
        kernel_cache._danger.cache_clear()
        assert price(kernels) == (12, True)
        os.chown(folder, -1, 54321)
        self.refused(kernels, capsys, "a group of users can write")

    @pytest.mark.skipif(os.geteuid() != 0, reason="only the superuser can give folders away")
    def test_who_owns_the_source_is_trusted(self, kernels: Any, tmp_path: Path, capsys: Any) -> None:
        price(kernels)
        os.chown(tmp_path / "kernels_inner.py", 12345, -1)
        os.chown(tmp_path / "kernels_outer.py", 12345, -1)
        os.chown(self.cache(tmp_path), 12345, -1)
        kernel_cache._danger.cache_clear()
        assert price(kernels) == (12, True)
        assert capsys.readouterr().err == ""

    def test_a_checkout_that_all_can_write_is_as_open_as_its_cache(
        self, kernels: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
    ) -> None:
        monkeypatch.setattr(config, "CACHE_DIR", "")
        price(kernels)
        for path in (tmp_path / "__pycache__", tmp_path / "kernels_inner.py", tmp_path / "kernels_outer.py"):
            path.chmod(0o777)
        kernel_cache._danger.cache_clear()
        assert price(kernels) == (12, True)
        for path in (tmp_path / "kernels_inner.py", tmp_path / "kernels_outer.py"):
            path.chmod(0o644)
        kernel_cache._danger.cache_clear()
        assert price(kernels) == (12, False)
        assert "all users can write" in capsys.readouterr().err


class Subclass(np.ndarray):
    pass


FOREIGN: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "read-only": lambda array: np.frombuffer(array.tobytes(), array.dtype).reshape(array.shape),
    "of a subclass": lambda array: array.view(Subclass),
    "of the other byte order": lambda array: array.astype(array.dtype.newbyteorder()),
    "not aligned": lambda array: np.frombuffer(bytearray(b"x" + array.tobytes()), array.dtype, offset=1).reshape(
        array.shape
    ),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_arrays_of_other_kinds_compile_nothing_anew(kernels: Callable[[], ModuleType], kind: str) -> None:
    outer = kernels().outer
    numbers = np.array([7, 8])
    expected = outer(numbers)
    for _ in range(2):
        assert outer(FOREIGN[kind](numbers)) == expected
    assert len(outer.signatures) == 1


def test_a_mapped_file_compiles_nothing_anew(kernels: Callable[[], ModuleType], tmp_path: Path) -> None:
    outer = kernels().outer
    np.save(tmp_path / "numbers.npy", np.array([7, 8]))
    expected = outer(np.array([7, 8]))
    for mode in ("r", "c", "r+"):
        assert outer(np.load(tmp_path / "numbers.npy", mmap_mode=mode)) == expected
    assert len(outer.signatures) == 1


# In a tuple, Numba takes arrays of the other byte order for ordinary ones; no batch is made of them (tests/mapping).
@pytest.mark.parametrize("kind", [kind for kind in FOREIGN if kind != "of the other byte order"])
def test_a_batch_of_other_arrays_prices_the_same_and_compiles_nothing(kind: str) -> None:
    space = MapSpace(catalog.workload("toy/tiny_gemm"), catalog.accelerator("accel_b"))
    model, batch = CostModel(space.workload, space.accelerator), space.sample(np.random.default_rng(0), 5)
    expected = model.evaluate(batch)
    contained, canonical = space.contains(batch), space.canonical(batch)
    signatures = len(price_batch.signatures)
    for name in ARRAYS:
        object.__setattr__(batch, name, FOREIGN[kind](getattr(batch, name)))
    assert np.array_equal(model.evaluate(batch).edp, expected.edp)
    assert np.array_equal(space.contains(batch), contained)
    assert space.canonical(batch) == canonical
    assert len(price_batch.signatures) == signatures


@pytest.mark.parametrize("number", [np.int8(3), np.int32(3), np.uint16(3), np.int64(3)])
def test_small_scalars_are_numbers(number: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    @compilation.kernel
    def double(x: Any) -> Any:
        return 2 * x

    assert double(3) == double(number) == 6
    assert len(double.signatures) == 1  # type: ignore[attr-defined]


def run(code: str, folder: Path = REPOSITORY, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(folder)} | environment,
        capture_output=True,
        text=True,
        timeout=240,
    )


def test_the_first_use_says_that_it_compiles_and_the_second_does_not(tmp_path: Path) -> None:
    code = (
        "from mapgym.mapping.legality_kernels import _first_factor_below_one as f; import numpy as np; "
        "a = np.ones((1, 1, 1), 'int32')"
    )
    cache = str(tmp_path / "cache")
    first, second = (run(f"{code}; print(f(0, a, a))", NUMBA_CACHE_DIR=cache) for _ in range(2))
    assert (first.stdout, second.stdout) == ("0\n", "0\n")
    assert "compiling kernels for their first use" in first.stderr
    assert second.stderr == ""


def test_vectorisation_of_other_peoples_functions_is_left_alone() -> None:
    before = config.LOOP_VECTORIZE
    with compilation._scalar_loops():
        assert config.LOOP_VECTORIZE == 0
    assert before == config.LOOP_VECTORIZE
