"""DGL convolutions as embedding layers, and one that is our own attention."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from pres_dist.errors import ConfigError
from pres_dist.inference.live import LiveRun
from pres_dist.model.attention import TemporalAttention
from pres_dist.model.rows import Rows
from pres_dist.training.run import train
from pres_dist.training.setup import assemble, load_data
from tests.support.small_run import habitual_stream, small_config

pytest.importorskip("dgl")

from pres_dist.model.dgl_layer import make_convolution, message_flow_block

Q, K, STATE, EDGE, TIME, OUT, HEADS = 7, 5, 6, 3, 4, 8, 2


def inputs() -> tuple[torch.Tensor, ...]:
    """Queries, neighbors, edge features, encoded ages and which slots are full."""
    torch.manual_seed(0)
    mask = torch.rand(Q, K) < 0.6
    mask[2] = False
    sizes = ((Q, STATE), (Q, K, STATE), (Q, K, EDGE), (Q, K, TIME))
    return *(torch.randn(*size) for size in sizes), mask


def test_dot_product_attention_of_dgl_is_ours_with_equal_keys_and_values() -> None:
    own, states, edges, times, mask = inputs()
    now = torch.randn(1, TIME)
    key_dim = STATE + EDGE + TIME
    convolution = make_convolution("dgl.nn.DotGatConv", (key_dim, STATE + TIME), OUT, HEADS)
    attention = TemporalAttention(STATE, EDGE, TIME, OUT, HEADS)
    with torch.no_grad():
        attention.key.copy_(convolution.fc_src.weight)
        attention.value.copy_(convolution.fc_src.weight)
        attention.query.weight.copy_(convolution.fc_dst.weight)
        attention.query.bias.zero_()
    neighbors = torch.cat([states, edges, times], dim=2)[mask]
    queries = torch.cat([own, now.expand(Q, -1)], dim=1)
    block = message_flow_block(mask)
    assert (block.num_src_nodes(), block.num_dst_nodes()) == (int(mask.sum()), Q)
    assert torch.equal(block.in_degrees(), mask.sum(1))
    found = convolution(block, (neighbors, queries)).flatten(1)
    expected = attention(own, now, Rows.of(states), Rows.of(edges), Rows.of(times), mask)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)
    assert not found[2].any()


@pytest.mark.parametrize("name", ["GATv2Conv", "SAGEConv"])
def test_runs_are_trained_with_convolutions(tmp_path: Path, name: str) -> None:
    habitual_stream(600).save(tmp_path / "habits")
    settings = {"model.embedding": f"dgl.nn.{name}", "model.num_layers": 2, "training.epochs": 1}
    config = small_config(tmp_path / "habits")(**settings)
    train(config, tmp_path / "run")
    trained = LiveRun(tmp_path / "run").model.embedding.layers
    drawn = assemble(config, load_data(config, torch.device("cpu"))).model.embedding.layers
    for layer, before in zip(trained, drawn, strict=True):
        for weights, first in zip(layer.parameters(), before.parameters(), strict=True):
            assert not torch.equal(weights, first)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("NoConv", "DGL has no dgl.nn.NoConv"),
        ("GINConv", "gives 10 numbers a query, not the 8|must be a convolution"),
        ("CFConv", "must be a convolution that takes .* got dgl.nn.CFConv: "),
        ("PNAConv", "must be a convolution that takes .* got dgl.nn.PNAConv: "),
    ],
)
def test_what_cannot_be_a_layer(name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_convolution(f"dgl.nn.{name}", (13, 10), OUT, HEADS)


def test_names_of_other_packages_are_not_looked_up(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"model.embedding"):
        small_config(tmp_path)(model__embedding="os.system")


def test_without_dgl_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dgl", None)
    with pytest.raises(ConfigError, match=r"needs DGL, which is not installed: .*dgl"):
        make_convolution("dgl.nn.GATv2Conv", (13, 10), OUT, HEADS)
