"""Nearest neighbors and a two-dimensional map of embeddings.

Shapes: n nodes, m candidates, K neighbors, A embedding size.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor

_CELLS = 1 << 24
"""Most cosines that are computed at once, which bounds memory use."""


def nearest(
    nodes_n: Tensor, embedded_nA: Tensor, parts: Iterable[tuple[Tensor, Tensor]], num: int
) -> tuple[Tensor, Tensor]:
    """Return the nearest candidates of each node by cosine similarity, without the node itself.

    Args:
        nodes_n: distinct nodes.
        embedded_nA: embeddings of the nodes.
        parts: candidates [m] and their embeddings [m, A], part by part.
        num: K.

    Returns:
        [n, K] nodes and their cosines, the nearest first; -1 and -inf where there are fewer.
    """
    unit_nA = F.normalize(embedded_nA, dim=1)
    near_nK = nodes_n.new_full((nodes_n.numel(), num), -1)
    cosine_nK = unit_nA.new_full(near_nK.shape, -torch.inf)
    for candidates_m, embedded_mA in parts:
        unit_mA = F.normalize(embedded_mA, dim=1)
        for rows in torch.arange(nodes_n.numel()).split(max(1, _CELLS // candidates_m.numel())):
            cosine = unit_nA[rows] @ unit_mA.T
            cosine[nodes_n[rows, None] == candidates_m] = -torch.inf
            cosine = torch.cat([cosine_nK[rows], cosine], dim=1)
            among = torch.cat([near_nK[rows], candidates_m.expand(rows.numel(), -1)], dim=1)
            best, place = cosine.sort(dim=1, descending=True, stable=True)
            cosine_nK[rows] = best[:, :num]
            near_nK[rows] = among.gather(1, place[:, :num])
    return near_nK.masked_fill(cosine_nK == -torch.inf, -1), cosine_nK


def plane(embedded_nA: Tensor) -> tuple[Tensor, float]:
    """Return the [n, 2] scores on the first two principal components, and their variance share.

    The sign of a component is chosen so that its largest loading is positive, so that the map is
    not mirrored on another machine.
    """
    centered_nA = embedded_nA.double() - embedded_nA.double().mean(0)
    _, scale, axes_rA = torch.linalg.svd(centered_nA, full_matrices=False)
    axes_2A = centered_nA.new_zeros(2, centered_nA.shape[1])
    axes_2A[: min(2, len(axes_rA))] = axes_rA[:2]
    largest_21 = axes_2A.abs().argmax(1, keepdim=True)
    axes_2A = axes_2A * torch.where(axes_2A.gather(1, largest_21) < 0, -1.0, 1.0)
    variance = scale.square()
    total = float(variance.sum())
    return centered_nA @ axes_2A.T, float(variance[:2].sum()) / total if total else 1.0
