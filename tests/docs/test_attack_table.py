"""The table of attacks in docs/explanation/reliability.md is generated from the tests' markers."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TABLE = runpy.run_path(str(ROOT / "benchmarks" / "attack_table.py"))
PAGE = "before\n{BEGIN}old\n{END}after\n".format(**TABLE)


def test_the_table_is_up_to_date() -> None:
    page = (ROOT / "docs/explanation/reliability.md").read_text(encoding="utf-8")
    assert page == TABLE["with_table"](page, ROOT / "tests"), (
        "run python benchmarks/attack_table.py"
    )


def test_each_marker_is_a_row(tmp_path: Path) -> None:
    (tmp_path / "test_one.py").write_text(
        "import pytest\n"
        "@pytest.mark.attack('a | b', before='lost',\n    after='kept' ' whole')\n"
        "def test_plain(): ...\n"
        "@pytest.mark.parametrize('x', [\n"
        "    pytest.param(1, marks=pytest.mark.attack('c', before='d', after='e'))])\n"
        "def test_parameters(x): ...\n"
    )
    assert TABLE["with_table"](PAGE, tmp_path) == (
        "before\n{BEGIN}\n{HEADER}"
        "| a \\| b | lost | kept whole | `{here}/test_one.py::test_plain` |\n"
        "| c | d | e | `{here}/test_one.py::test_parameters` |\n"
        "\n{END}after\n"
    ).format(**TABLE, here=tmp_path.name)


def test_a_marker_without_one_of_the_texts_is_named(tmp_path: Path) -> None:
    (tmp_path / "test_one.py").write_text(
        "import pytest\n@pytest.mark.attack('a', before='b')\ndef test_it(): ...\n"
    )
    with pytest.raises(ValueError, match=r"test_one.py::test_it: .* name, before, after"):
        TABLE["with_table"](PAGE, tmp_path)
