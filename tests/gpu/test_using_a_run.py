"""Whatever uses a run computes on a GPU what it computes on the CPU, and mixes no devices."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from pres_dist import Run
from pres_dist.inference.explore.gather import Limits, explore
from pres_dist.inference.extend import extend_run
from pres_dist.inference.live import LiveRun
from pres_dist.inference.serve.service import ScoringService
from pres_dist.inference.train_on import TrainOn
from pres_dist.report.run_record import read_record, write_record
from pres_dist.training.evaluate_run import evaluate_negatives, evaluate_run, stream_baselines
from pres_dist.training.run import train
from tests.support.serving import ingest, later_events, recommend, score
from tests.support.small_run import labelled_stream, small_config

KINDS: dict[str, dict[str, object]] = {
    "paper": {"preset": "paper", "model__decoder": "embeddings"},
    "apan": {"model__kind": "apan"},
}


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def trained(kind: str, habits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was trained on the CPU: training on a GPU is tested elsewhere."""
    run_dir = tmp_path_factory.mktemp("runs") / kind
    train(small_config(habits)(training__epochs=1, **KINDS[kind]), run_dir)
    return run_dir


@pytest.fixture
def both(trained: Path, device: torch.device, tmp_path: Path) -> tuple[Path, Path]:
    """Copies of the run, for the CPU and for the GPU."""
    return on_device(trained, tmp_path / "cpu", "cpu"), on_device(trained, tmp_path / "gpu", device)


def on_device(run_dir: Path, place: Path, device: object) -> Path:
    """A copy of a run that is used on a device."""
    shutil.copytree(run_dir, place)
    record = read_record(place)
    assert record.config.count("device: auto") == 1
    config = record.config.replace("device: auto", f"device: {device}")
    write_record(place, record.model_copy(update={"config": config}))
    (place / "config.yaml").write_text(config)
    return place


def close(found: Any, expected: Any, device: torch.device | None = None) -> None:
    """Compare with the CPU's numbers; with `device`, numbers that training or ranks amplify.

    Sums on a GPU are in no fixed order; those of the simulation are the CPU's.
    """
    amplified = device is not None and device.type != "sim"
    rtol, atol = (0.1, 1e-2) if amplified else (1e-3, 1e-4)
    torch.testing.assert_close(found, expected, rtol=rtol, atol=atol)


def test_scores_and_embeddings(both: tuple[Path, Path]) -> None:
    asked: list[Callable[[Run, int], Any]] = [
        lambda run, t: run.embed(at=t).values,
        lambda run, t: run.embed(nodes=[3, 44]).values,
        lambda run, t: run.memory.values,
        lambda run, t: run.memory.last_update.cpu(),
        lambda run, t: run.score([(3, 44), (5, 41)], at=t),
        lambda run, t: run.score([(3, 44, t), (5, 41, t + 100)], batched=True),
        lambda run, t: run.score(pd.DataFrame({"src": [3], "dst": [44]})),
    ]
    found = [[ask(Run(path), int(Run(path).stream.t[450])) for ask in asked] for path in both]
    for expected, computed in zip(*found, strict=True):
        close(torch.as_tensor(computed).cpu(), torch.as_tensor(expected))


def test_recommendations(both: tuple[Path, Path]) -> None:
    for options in ({}, {"exclude_seen": True}):
        cpu, gpu = (Run(path).recommend([3, 5], top=4, **options) for path in both)
        close(
            torch.tensor([each.probability for each in gpu]),
            torch.tensor([each.probability for each in cpu]),
        )
        assert [(each.src, each.rank) for each in gpu] == [(each.src, each.rank) for each in cpu]


def test_rankings(both: tuple[Path, Path], device: torch.device) -> None:
    cpu, gpu = (Run(path).evaluate_ranking(20) for path in both)
    for name, expected in cpu["ranked"].items():
        close(gpu["ranked"][name]["mrr"], expected["mrr"], device)


def test_evaluations(both: tuple[Path, Path], device: torch.device) -> None:
    for evaluated in (
        lambda path: historical(path)["test"]["ap"],
        lambda path: stream_baselines(Run(path).config)["random"]["num_negatives"],
    ):
        cpu, gpu = (evaluated(path) for path in both)
        close(gpu, cpu, device)


def historical(path: Path) -> Any:
    return evaluate_negatives(path, Run(path).config.evaluation)["historical"]


def test_the_page_about_nodes(both: tuple[Path, Path]) -> None:
    cpu, gpu = (explore(LiveRun(path), Limits(nodes=10, points=5)) for path in both)
    assert torch.equal(gpu.nodes_n.cpu(), cpu.nodes_n)
    close(gpu.cosine_nK.cpu(), cpu.cosine_nK)
    close(torch.tensor(gpu.explained), torch.tensor(cpu.explained))


def test_an_export_is_of_the_cpu(both: tuple[Path, Path], tmp_path: Path) -> None:
    out = [Run(path).export(tmp_path / f"{path.name}.export", memory=True) for path in both]
    for name in ("weights.safetensors", "memory.safetensors"):
        cpu, gpu = (load_file(folder / name) for folder in out)
        for column, expected in cpu.items():
            assert torch.equal(gpu[column], expected), column


@pytest.mark.parametrize("training", [None, TrainOn(keep="always")], ids=["as it is", "trained on"])
def test_an_extension(
    both: tuple[Path, Path], training: TrainOn | None, device: torch.device
) -> None:
    found = []
    for path in both:
        extend_run(path, new_events(path), training=training)
        found.append(Run(path).embed().values)
    close(found[1].cpu(), found[0], device)


def new_events(path: Path) -> pd.DataFrame:
    events = later_events(int(Run(path).stream.t[-1]) + 1, 80)
    columns = {name: [event[name] for event in events] for name in ("src", "dst", "t")}
    features = np.array([event["features"] for event in events])
    return pd.DataFrame(columns | {f"f{n}": features[:, n] for n in range(3)})


def test_a_service(both: tuple[Path, Path]) -> None:
    answers = []
    for path in both:
        with ScoringService(path) as service:
            events = later_events(service.memory.latest, 120)
            service.ingest(ingest(events))
            answers.append(
                [
                    *service.score(score([(3, 44), (5, 41)])).tolist(),
                    *(each.probability for each in service.recommend(recommend(3, top=4))),
                    *(
                        each.probability
                        for each in service.recommend(recommend(3, candidates=[41, 44]))
                    ),
                ]
            )
        with ScoringService(path) as again:
            assert again.num_events == 120
            close(
                torch.from_numpy(again.score(score([(3, 44), (5, 41)]))),
                torch.tensor(answers[-1][:2]),
            )
    close(torch.tensor(answers[1]), torch.tensor(answers[0]))


def test_labels(device: torch.device, tmp_path: Path) -> None:
    labelled_stream(500).save(tmp_path / "labelled")
    config = small_config(tmp_path / "labelled")(
        task__kind="node_classification", training__epochs=1
    )
    train(config, tmp_path / "run")
    found = [
        evaluate_run(on_device(tmp_path / "run", tmp_path / str(name), name), config.evaluation)
        for name in ("cpu", device)
    ]
    assert found[1]["test"]["accuracy"] == pytest.approx(found[0]["test"]["accuracy"], abs=0.02)
