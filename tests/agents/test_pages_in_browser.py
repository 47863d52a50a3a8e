"""The pages that commands write, opened in a browser."""

from __future__ import annotations

import pytest

from browser import check_page, opened_browser


@pytest.fixture(scope="module")
def browser():
    with opened_browser() as opened:
        yield opened


def test_the_page_of_a_map(browser, mapgym, tmp_path):
    arguments = ("--samples-per-layer", "60", "--agent", "random", "--clock", "1", "--certify", "2")
    assert mapgym("map", "toy", "tiny", "-o", tmp_path, *arguments)[0] == 0
    # Seven layers that open, twelve columns that sort, five entries of the contents, at both widths.
    assert check_page(browser, tmp_path / "map.html") == 2 * (7 + 12 + 5)
    assert browser.find_elements("css selector", "svg circle title")


def test_the_page_of_an_experiment(browser, mapgym, tmp_path):
    pytest.importorskip("pyarrow")
    task = ("--workload", "toy/tiny_gemm,toy/tiny_1d", "--accelerator", "tiny", "--samples", "60", "--seeds", "2")
    assert mapgym("compare", "--agents", "random,hill-climb", *task, "-o", tmp_path)[0] == 0
    assert check_page(browser, tmp_path / "report.html") > 20
    headings = browser.find_elements("css selector", "table.sortable th[aria-sort]")
    assert headings  # of the columns that were pressed


def test_a_page_with_a_fault_is_found(browser, tmp_path):
    for name, content in {
        "error": "<script>undefined.x</script>",
        "request": "<img src='http://127.0.0.1:9/x.png'>",
        "wide": "<div style='width:3000px'>x</div>",
    }.items():
        page = tmp_path / f"{name}.html"
        page.write_text(f"<!DOCTYPE html><title>x</title><link rel=icon href='data:,'>{content}")
        with pytest.raises(AssertionError):
            check_page(browser, page)
