"""Training with a compiled memory update: the same numbers, or one clear error."""

from __future__ import annotations

import json
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
import torch
from torch._inductor import config as inductor

from pres_dist.cli.main import main
from pres_dist.errors import ConfigError
from pres_dist.run_files import METRICS
from pres_dist.training.run import train
from tests.support.small_run import habitual_stream, saved_state, small_config


@pytest.fixture
def stream(tmp_path: Path) -> Path:
    habitual_stream(700).save(tmp_path / "habits")
    return tmp_path / "habits"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.torch.jit.script_method. is deprecated:DeprecationWarning")
def test_it_trains_the_same_model(
    stream: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With several messages a node and several optimizer steps a batch."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))
    make = small_config(stream)
    for name, compiled in (("as it is", False), ("compiled", True)):
        train(make(training__compile=compiled, training__epochs=1), tmp_path / name)
    losses = [epoch_of(tmp_path / name)["loss"] for name in ("as it is", "compiled")]
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
    one, other = (saved_state(tmp_path / name)["model"] for name in ("as it is", "compiled"))
    assert one.keys() == other.keys()  # a checkpoint does not tell which it was
    for name, expected in one.items():
        torch.testing.assert_close(other[name], expected, rtol=1e-2, atol=1e-3)
    # Who does not train compiles nothing, and needs no compiler.
    with no_compiler(tmp_path):
        assert main(["evaluate", str(tmp_path / "compiled")]) == 0


def no_compiler(folder: Path) -> AbstractContextManager[None]:
    """As on a machine without one, for a while."""
    return inductor.patch({"cpp.cxx": (None, str(folder / "none"))})


def epoch_of(folder: Path) -> dict[str, float]:
    lines = (folder / METRICS).read_text(encoding="utf-8").splitlines()
    return next(one for one in map(json.loads, lines) if one["kind"] == "epoch")


def test_without_a_compiler_nothing_begins(
    stream: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "run.yaml"
    config.write_text(f"data: {{stream: {stream}}}\ntraining: {{compile: true}}\n")
    with no_compiler(tmp_path):
        assert main(["train", str(config), "--run-dir", str(tmp_path / "run")]) == 2
    assert capsys.readouterr().err.startswith("error: training.compile needs a C++ compiler")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("kind", ["apan", "tgat"])
def test_models_without_a_recurrent_update_refuse(kind: str, stream: Path) -> None:
    with pytest.raises(ConfigError, match=f"where no recurrent cell updates memory .*{kind}"):
        small_config(stream)(model__kind=kind, training__compile=True)
