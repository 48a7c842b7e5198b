"""Exports: what is loaded again computes what the run's own modules compute, to the last bit."""

from __future__ import annotations

import json
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

from pres_dist.cli.main import main
from pres_dist.files import sha256
from pres_dist.inference.live import LiveRun
from pres_dist.inference.run import Run
from pres_dist.inference.tuned import write_tensors
from pres_dist.sampling.event_log import numbers_of
from pres_dist.step.history import past_of
from tests.support.trained_runs import trained

pytest.importorskip("safetensors", reason="needs the extra `export`")

FILES = {"weights.safetensors", "link_decoder.pt2", "memory_updater.pt2", "config.yaml"}
FILES |= {"manifest.json", "README.md"}


@pytest.mark.parametrize("kind", ["apan", "two slots"])
def test_programs_compute_what_the_run_computes(runs: Path, tmp_path: Path, kind: str) -> None:
    from safetensors.torch import load_file

    run_dir, out = trained(runs, kind), tmp_path / "out"
    assert main(["export", str(run_dir), "--out", str(out), "--memory"]) == 0
    live = LiveRun(run_dir)
    model = live.parts.model

    weights = load_file(out / "weights.safetensors")
    own = model.state_dict()
    assert weights.keys() == own.keys()
    assert all(torch.equal(weights[name], own[name]) for name in own)

    decode = torch.export.load(out / "link_decoder.pt2").module()
    for sources, candidates in ((1, 1), (5, 3), (64, 1)):
        embedded = torch.randn(sources, 8), torch.randn(sources, candidates, 8)
        logits = decode(sources=embedded[0], destinations=embedded[1])
        assert torch.equal(logits, model.decoder(*embedded))

    live.move_to(live.stream.num_events)
    update = torch.export.load(out / "memory_updater.pt2").module()
    memory = load_file(out / "memory.safetensors")
    nodes = torch.arange(live.stream.num_nodes)
    for chosen in (nodes, nodes[7:8]):
        part = {name: rows[chosen] if rows.dim() else rows for name, rows in memory.items()}
        updated = live.memory(chosen, live.latest)
        found, last_update = update(**part)
        if kind == "apan":  # exported, the logarithm in a prediction by level rounds otherwise
            torch.testing.assert_close(found, updated.memory_UD, rtol=1e-5, atol=2e-6)
        else:
            assert torch.equal(found, updated.memory_UD)
        assert torch.equal(last_update, updated.last_update_U)
    assert not torch.equal(memory["memory"], update(**memory)[0])  # there was mail to apply
    names = pq.read_table(out / "nodes.parquet").to_pydict()
    assert names["id"] == live.stream.raw_ids(nodes.numpy()).tolist()
    assert names["side"] == live.lookup.side_of(nodes.numpy())


def test_the_manifest_says_what_is_there(tgn_run: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert Run(tgn_run).export(out) == out
    assert {file.name for file in out.iterdir()} == FILES
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["files"].keys() == FILES - {"manifest.json"}
    for name, about in manifest["files"].items():
        assert about == {"bytes": (out / name).stat().st_size, "sha256": sha256(out / name)}
    assert manifest["tensors"]["weights.safetensors"]["decoder.out.weight"] == {
        "dtype": "float32",
        "shape": [1, 8],
    }
    assert manifest["programs"]["memory_updater.pt2"]["inputs"]["mail_features"].startswith(
        "float32 [nodes, 4, 3] features"
    )
    assert len(manifest["feature_scaling"]["scale"]) == 3
    assert "`mail_features` | float32" in (out / "README.md").read_text()


def test_models_without_a_part_leave_it_out(runs: Path, tmp_path: Path) -> None:
    for kind, missing in (("tgat", "memory_updater.pt2"), ("labels", "link_decoder.pt2")):
        out = tmp_path / kind
        assert main(["export", str(trained(runs, kind)), "--out", str(out)]) == 0
        assert {file.name for file in out.iterdir()} == FILES - {missing}


def test_what_cannot_be_exported_leaves_nothing(
    runs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run_dir, taken = trained(runs), tmp_path / "taken"
    taken.mkdir()
    for arguments, message in (
        ([run_dir, "--out", taken], "taken: already exists"),
        ([run_dir, "--out", tmp_path / "no" / "where"], "there is no folder"),
        ([tmp_path, "--out", tmp_path / "o"], "not the folder of a run"),
        ([trained(runs, "tgat"), "--out", tmp_path / "o", "--memory"], "tgat has no memory"),
    ):
        assert main(["export", *map(str, arguments)]) == 2
        assert message in capsys.readouterr().err

    def dies(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("torch.export.save", dies)
        assert main(["export", str(run_dir), "--out", str(tmp_path / "o")]) == 2
    assert "o: cannot be written: No space left" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "safetensors.torch", None)
    assert main(["export", str(run_dir), "--out", str(tmp_path / "o")]) == 2
    assert "pip install 'pres-dist[export]'" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_a_full_disk_is_one_error(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_dir = trained(runs)
    with largest_file(20_000):
        assert main(["export", str(run_dir), "--out", str(tmp_path / "o")]) == 2
        with pytest.raises(OSError, match="File too large"):
            write_tensors(tmp_path / "memory.pt", {"table": torch.zeros(100_000)})
    assert "o: cannot be written: File too large" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@contextmanager
def largest_file(num_bytes: int) -> Iterator[None]:
    """Limit the size of files, as `ulimit -f` does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_decoder_that_reads_the_log_says_what_it_needs(runs: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert main(["export", str(trained(runs, "history")), "--out", str(out)]) == 0
    live = LiveRun(trained(runs, "history"))
    live.move_to(live.stream.num_events)
    src, dst = torch.arange(5), torch.arange(40, 55)
    t = torch.full((15,), live.latest)
    sources, candidates = live.query(src, t[:5], live.latest), live.query(dst, t, live.latest)
    place = torch.arange(15).expand(5, -1)
    reads = live.pipeline.log.read(src, dst.expand(5, -1), t[:5])
    past = past_of(reads, candidates.around.at(place.flatten()))
    assert past.num_common_BM.max() > 0
    decode = torch.export.load(out / "link_decoder.pt2").module()
    logits = decode(
        sources=sources.embedded_QA,
        destinations=candidates.embedded_QA[place],
        numbers=past.numbers_BMF,
        common=past.common_BMS,
        num_common=past.num_common_BM,
    )
    assert torch.equal(logits, live.pipeline.score(sources, candidates, place))
    readme, manifest = (out / "README.md").read_text(), (out / "manifest.json").read_text()
    for name, meaning in numbers_of(bipartite=True).items():
        assert f"| {name} | {meaning} |" in readme
        assert meaning in manifest
    assert "of u the partners, in their last 4 events, of those in its last 4" in readme
