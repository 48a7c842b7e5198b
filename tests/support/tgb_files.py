"""A small data set in the files of TGB's tgbl-wiki, made up."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np

NAME = "tgbl-wiki"
NUM_USERS, NUM_PAGES = 20, 30


@dataclass
class TgbFiles:
    """Events as TGB numbers them, and its negatives by (src, dst, t)."""

    src: np.ndarray
    dst: np.ndarray
    t: np.ndarray
    features: np.ndarray
    negatives: list[dict]

    @property
    def masks(self) -> list[np.ndarray]:
        """[E] bool of the training, the validation and the test split, as TGB cuts them."""
        first, second = np.quantile(self.t, [0.7, 0.85])
        return [self.t <= first, (self.t > first) & (self.t <= second), self.t > second]

    def official(self) -> SimpleNamespace:
        """Return the data set that py-tgb makes of the files."""
        return SimpleNamespace(
            full_data={"sources": self.src, "destinations": self.dst, "timestamps": self.t},
            edge_feat=self.features,
            node_feat=None,
            train_mask=self.masks[0],
            val_mask=self.masks[1],
            test_mask=self.masks[2],
        )

    def write(self, root: Path) -> Path:
        """The folder as py-tgb unpacks it; returns it."""
        folder = root / "tgbl_wiki"
        folder.mkdir(parents=True)
        lines = ["user_id,item_id,timestamp,state_label,comma_separated_list_of_features"]
        for src, dst, t, row in zip(self.src, self.dst, self.t, self.features, strict=True):
            lines.append(f"{src},{dst - NUM_USERS},{t},0,{row[0]},{row[1]}")
        (folder / f"{NAME}_edgelist_v2.csv").write_text("\n".join(lines) + "\n")
        for part, negatives in zip(("val", "test"), self.negatives, strict=True):
            (folder / f"{NAME}_{part}_ns_v2.pkl").write_bytes(
                pickle.dumps(negatives, protocol=pickle.HIGHEST_PROTOCOL)
            )
        return folder


def tgb_files(num_events: int = 400, most: int = 12, seed: int = 0) -> TgbFiles:
    """Users with habits; events share times; between 3 and `most` negatives an event."""
    rng = np.random.default_rng(seed)
    src = rng.integers(0, NUM_USERS, num_events)
    src[0] = NUM_USERS - 1
    habit = rng.integers(0, NUM_PAGES, NUM_USERS)
    page = np.where(
        rng.random(num_events) < 0.6, habit[src], rng.integers(0, NUM_PAGES, num_events)
    )
    files = TgbFiles(
        src,
        page + NUM_USERS,
        np.sort(rng.integers(0, num_events, num_events)) * 10,
        rng.integers(0, 9, (num_events, 2)) / 4,
        [],
    )
    for mask in files.masks[1:]:
        by_event = {}
        for event in np.flatnonzero(mask):
            now = (files.src == files.src[event]) & (files.t == files.t[event])
            free = np.setdiff1d(np.arange(NUM_USERS, NUM_USERS + NUM_PAGES), files.dst[now])
            drawn = rng.choice(free, rng.integers(3, most + 1), replace=False)
            key = (files.src[event], files.dst[event], files.t[event])
            by_event[key] = drawn.astype(float if event % 2 else int)
        files.negatives.append(by_event)
    return files
