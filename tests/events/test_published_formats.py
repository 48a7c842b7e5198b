from __future__ import annotations

import os

import numpy as np
import pytest

from pres_dist.errors import DataError

JODIE = "user_id,item_id,timestamp,state_label,comma_separated_list_of_features\n"


def test_jodie(run_import):
    stream = run_import(JODIE + "0,0,0.0,0,0.5,1\n1,1,36.0,1,-1,2\n").stream
    assert stream.num_sources == 2
    assert stream.dst.tolist() == [2, 3]
    assert stream.t.tolist() == [0, 36]
    assert stream.labels.tolist() == [0, 1]
    assert stream.edge_features.tolist() == [[0.5, 1], [-1, 2]]
    assert stream.raw_ids([1, 2, 3]).tolist() == [1, 0, 1]


def test_jodie_without_features(run_import):
    assert run_import(JODIE + "0,0,0.0,0\n").stream.edge_dim == 0


def test_jodie_ragged_line(run_import):
    with pytest.raises(DataError, match=r"events\.csv:3: must have 6 fields, got 5"):
        run_import(JODIE + "0,0,0.0,0,1,2\n0,0,1.0,0,1\n")


def test_jodie_takes_no_column_names(run_import):
    with pytest.raises(DataError, match="--src is for csv and parquet, not for the format jodie"):
        run_import(JODIE + "0,0,0.0,0\n", src="user_id")


@pytest.fixture
def tgl(tmp_path):
    folder = tmp_path / "WIKI"
    folder.mkdir()
    (folder / "edges.csv").write_text(",src,dst,time,ext_roll\n0,0,2,0.0,0\n1,1,3,5.0,1\n")
    return folder


def test_tgl(run_import, tgl):
    torch = pytest.importorskip("torch")
    torch.save(torch.tensor([[1.0, 2.0], [3.0, 4.0]]), tgl / "edge_features.pt")
    torch.save(torch.eye(4, dtype=torch.float64), tgl / "node_features.pt")
    result = run_import(tgl)
    assert result.stream.num_sources == 2
    assert result.stream.t.tolist() == [0, 5]
    assert result.stream.edge_features.tolist() == [[1, 2], [3, 4]]
    assert result.stream.node_dim == 4
    assert any("ext_roll not used" in note for note in result.notes)


def test_tgl_without_features(run_import, tgl):
    assert run_import(tgl).stream.edge_dim == 0


def test_tgl_tensor_is_never_unpickled(run_import, tgl):
    torch = pytest.importorskip("torch")
    torch.save(os.system, tgl / "edge_features.pt")
    with pytest.raises(DataError, match=r"edge_features\.pt: cannot be read as a tensor"):
        run_import(tgl)


def test_tgl_tensor_of_another_kind(run_import, tgl):
    torch = pytest.importorskip("torch")
    torch.save({"a": 1}, tgl / "edge_features.pt")
    with pytest.raises(DataError, match="must hold one tensor of real numbers, got dict"):
        run_import(tgl)


@pytest.fixture
def dyglib(tmp_path):
    folder = tmp_path / "wiki"
    folder.mkdir()
    lines = ",u,i,ts,label,idx\n0,1,3,0.0,0.0,1\n1,2,3,5.0,1.0,2\n"
    (folder / "ml_wiki.csv").write_text(lines)
    np.save(folder / "ml_wiki.npy", np.array([[0.0, 0], [1, 2], [3, 4]]))
    np.save(folder / "ml_wiki_node.npy", np.zeros((4, 2)))
    return folder


def test_dyglib(run_import, dyglib):
    result = run_import(dyglib)
    stream = result.stream
    assert stream.src.tolist() == [0, 1]
    assert stream.dst.tolist() == [2, 2]
    assert stream.num_sources == 2
    assert stream.labels.tolist() == [0, 1]
    assert stream.edge_features.tolist() == [[1, 2], [3, 4]]
    assert stream.node_features is None
    assert any("all node features are 0" in note for note in result.notes)


def test_dyglib_node_features(run_import, dyglib):
    np.save(dyglib / "ml_wiki_node.npy", np.arange(8.0).reshape(4, 2))
    stream = run_import(dyglib / "ml_wiki.csv").stream
    assert stream.node_features.tolist() == [[2, 3], [4, 5], [6, 7]]


def test_dyglib_ids_start_at_one(run_import, dyglib):
    (dyglib / "ml_wiki.csv").write_text(",u,i,ts,label,idx\n0,0,3,0.0,0.0,1\n")
    with pytest.raises(DataError, match=r"ml_wiki\.csv:2: u must be an integer >= 1, got 0"):
        run_import(dyglib)


def test_dyglib_feature_row_outside(run_import, dyglib, out_entries):
    (dyglib / "ml_wiki.csv").write_text(",u,i,ts,label,idx\n0,1,3,0.0,0.0,3\n")
    with pytest.raises(DataError, match=r"ml_wiki\.csv:2: edge features have rows 0\.\.2"):
        run_import(dyglib)
    assert out_entries() == []


def test_a_folder_of_something_else(run_import, tmp_path):
    with pytest.raises(DataError, match="must be a file, or a folder with"):
        run_import(tmp_path)
