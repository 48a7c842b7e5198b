"""Write the table of attacks into docs/explanation/reliability.md from the tests' markers.

    python benchmarks/attack_table.py

The markers are read from the source: no test module is imported.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

from pres_dist.files import write_atomically

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs/explanation/reliability.md"
BEGIN, END = "<!-- attacks: begin -->\n", "<!-- attacks: end -->\n"
HEADER = "| attack | before | after | test |\n|---|---|---|---|\n"
COLUMNS = ("name", "before", "after")


def main() -> int:
    """Rewrite the page; return the exit code."""
    text = PAGE.read_text(encoding="utf-8")
    write_atomically(PAGE, with_table(text, ROOT / "tests"))
    print(f"{PAGE.relative_to(ROOT)}: {len(list(rows(ROOT / 'tests')))} attacks")
    return 0


def with_table(page: str, tests: Path) -> str:
    """Return the page with the table of these tests between its two comments."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"the page must have {BEGIN.strip()} and {END.strip()}")
    return before + begin + "\n" + HEADER + "".join(rows(tests)) + "\n" + end + after


def rows(tests: Path) -> Iterator[str]:
    """Yield a line of the table for each marker, by test file and place in it."""
    for file in sorted(tests.rglob("test_*.py")):
        text = file.read_text(encoding="utf-8")
        if "mark.attack(" not in text:
            continue
        for function, call in _markers(ast.parse(text)):
            where = f"{file.relative_to(tests.parent).as_posix()}::{function}"
            cells = [*_arguments(call, where), f"`{where}`"]
            yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"


def _markers(module: ast.Module) -> Iterator[tuple[str, ast.Call]]:
    """Yield each test and its markers, also those of single parameters."""
    for node in ast.walk(module):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        for decorator in node.decorator_list:
            for call in ast.walk(decorator):
                if isinstance(call, ast.Call) and ast.unparse(call.func) == "pytest.mark.attack":
                    yield node.name, call


def _arguments(call: ast.Call, where: str) -> list[str]:
    """The texts of a marker, in the order of the columns."""
    try:
        given = dict(zip(COLUMNS, map(ast.literal_eval, call.args), strict=False))
        given |= {str(word.arg): ast.literal_eval(word.value) for word in call.keywords}
        return [given[name] for name in COLUMNS]
    except (KeyError, ValueError):
        raise ValueError(
            f"{where}: an attack marker must have literal texts for {', '.join(COLUMNS)}"
        ) from None


if __name__ == "__main__":
    sys.exit(main())
