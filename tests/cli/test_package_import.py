"""The cost of importing pres_dist; a run needs neither Ray nor DGL nor pandas."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from unittest import mock

import pytest

HEAVY = ("torch", "numpy", "ray", "dgl", "pandas", "pyarrow")

BLOCK = """
import sys

for name in ("ray", "dgl", "pandas"):
    sys.modules[name] = None  # it cannot be imported
"""

TRAIN = """
from pathlib import Path
import numpy as np
from pres_dist import EventStream
from pres_dist.cli.main import main

draws = np.random.default_rng(0)
EventStream.from_arrays(
    src=draws.integers(0, 30, 600), dst=draws.integers(30, 50, 600), t=np.arange(600)
).save("stream")
Path("run.yaml").write_text("data: {stream: stream}")
code = main([
    "train", "run.yaml", "--run-dir", "run", "--training.epochs", "1",
    "--training.batch-size", "100", "--memory.dim", "8", "--model.embedding-dim", "8",
    "--model.time-dim", "8", "--training.num-threads", "1", "--training.device", "cpu",
])
assert code == 0, code
assert (Path("run") / "results.json").is_file()
"""


def python(script: str, cwd: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        timeout=240,
        cwd=cwd,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_importing_the_package_imports_nothing_heavy(tmp_path: Path) -> None:
    heavy = f"set({HEAVY!r}) & set(sys.modules)"
    python(f"import sys, pres_dist; assert not {heavy}, {heavy}", tmp_path)


def test_public_names_are_loaded_when_used(tmp_path: Path) -> None:
    script = (
        "import pres_dist\n"
        "assert pres_dist.RunConfig().name == 'run'\n"
        "assert {'train', 'EventStream', '__version__'} <= set(dir(pres_dist))\n"
    )
    python(script, tmp_path)


def test_an_unknown_name_is_an_attribute_error() -> None:
    import pres_dist

    with pytest.raises(AttributeError, match="no attribute 'xyzzy'"):
        _ = pres_dist.xyzzy


def test_a_run_needs_neither_ray_nor_dgl_nor_pandas(tmp_path: Path) -> None:
    python(BLOCK + TRAIN, tmp_path)


def test_without_ray_its_command_says_what_to_install(tmp_path: Path) -> None:
    quickstart = Path(__file__).parents[2] / "configs" / "quickstart.yaml"
    call = f"""
from pres_dist.cli.main import main
sys.exit(main(["ray", {str(quickstart)!r}]))
"""
    done = subprocess.run(
        [sys.executable, "-c", BLOCK + call], capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 2
    assert done.stderr == (
        "error: `pres-dist ray` needs Ray, which is not installed: pip install 'pres-dist[ray]'\n"
    )


def test_a_feature_without_its_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    from pres_dist.errors import MissingPackageError
    from pres_dist.inference.node_table import NodeTable
    from pres_dist.launchers.ray_cluster import cluster

    for package in ("ray", "pandas"):
        monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingPackageError, match=r"^a Ray cluster needs Ray.*pres-dist\[ray\]'$"):
        cluster("local", 1).__enter__()
    with pytest.raises(MissingPackageError, match=r"^to_pandas needs .*pres-dist\[pandas\]'$"):
        NodeTable.to_pandas(mock.Mock())
