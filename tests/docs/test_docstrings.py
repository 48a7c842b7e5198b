"""Docstrings say what something does or is: none opens with a question word."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
QUESTION = re.compile(r"(What|Who|Whom|Whose|Whether|Where|How|Why|Which|When)\b")


@pytest.mark.parametrize("folder", ["pres_dist", "tests", "benchmarks"])
def test_no_docstring_opens_with_a_question_word(folder: str) -> None:
    files = list((ROOT / folder).rglob("*.py"))
    assert files
    assert not [
        f"{file.relative_to(ROOT)}:{line}: {text}"
        for file in files
        for line, text in questions(file.read_text(encoding="utf-8"))
    ]


def questions(source: str) -> Iterator[tuple[int, str]]:
    """Yield the line and the first line of each docstring that opens with a question word.

    A string alone documents a module, class, function, or the attribute before it.
    """
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Expr(value=ast.Constant(value=str(text))) if QUESTION.match(text.strip()):
                yield node.lineno, text.strip().splitlines()[0]


def test_such_docstrings_are_found() -> None:
    source = '"""Whether it rains."""\nclass A:\n    def f():\n        """Return it."""\n'
    assert list(questions(source)) == [(1, "Whether it rains.")]
    assert [line for line, _ in questions('def f():\n    """How."""\n')] == [2]
    assert [line for line, _ in questions('x: int = 1\n"""How many."""\n')] == [2]
