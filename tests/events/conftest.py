"""Shared by the tests of events: importing small files, and real data where there is any."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pres_dist.events.import_config import ImportConfig
from pres_dist.events.importer import ImportResult, import_stream

Import = Callable[..., ImportResult]


@pytest.fixture
def run_import(tmp_path: Path) -> Import:
    """Import a file, or a text as a CSV file called events.csv, as tmp_path/out/stream."""

    def run(source: Path | str | bytes, **options: object) -> ImportResult:
        if not isinstance(source, Path):
            file = tmp_path / "events.csv"
            file.write_bytes(source if isinstance(source, bytes) else source.encode())
            source = file
        out = tmp_path / "out" / "stream"
        return import_stream(ImportConfig(source=source, out=out, **options))

    return run


@pytest.fixture
def out_entries(tmp_path: Path) -> Callable[[], list[str]]:
    """List the files that the import left in its output folder, hidden files included."""

    def entries() -> list[str]:
        folder = tmp_path / "out"
        return sorted(os.listdir(folder)) if folder.exists() else []

    return entries


@pytest.fixture
def real_data() -> Path:
    """The folder of real event streams; skips the test where there is none."""
    default = Path(__file__).parents[3] / "shared" / "data"
    folder = Path(os.environ.get("PRES_DIST_TEST_DATA", default))
    if not folder.is_dir():
        pytest.skip("no real data: PRES_DIST_TEST_DATA names no folder")
    return folder
