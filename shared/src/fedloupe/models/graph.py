"""The graph of a patient: which nodes of the graph convolutional model are joined, and the layer over it.

nodes = Nodes(groups=("shape", "t2w"), clinical=2, mr=27, ct=0)
a_hat = normalised(adjacency(nodes, {"t2w": "MR"}))     # (N, N), N = 2 + 2 + 27
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from fedloupe.features import sequences_of


@dataclass(frozen=True)
class Nodes:
    """Nodes in their order: feature groups, clinical values, places of the MR crop, places of the CT crop.

    Attributes:
        groups: names of the feature groups, as in `fedloupe.features.table`.
        clinical: number of clinical values.
        mr: number of MR places, the cube of a whole number; 0 without MR crops.
        ct: number of CT places, likewise.
    """

    groups: tuple[str, ...]
    clinical: int
    mr: int
    ct: int

    @property
    def kinds(self) -> tuple[int, ...]:
        """Number of nodes of each kind that the study has, in order; none is 0."""
        return tuple(count for count in (len(self.groups), self.clinical, self.mr, self.ct) if count)


def grid(places: int) -> NDArray[np.bool_]:
    """(N, N) which of N = e**3 places, in the order of a flattened (e, e, e) map, share a face: up to 6 each."""
    edge = round(places ** (1 / 3))
    where = np.stack(np.unravel_index(np.arange(places), (edge,) * 3), axis=1)
    steps = np.abs(where[:, None] - where[None]).sum(axis=2)
    return np.asarray(steps == 1)


def modalities_of(group: str, modality: Mapping[str, str]) -> set[str]:
    """Modalities that a group's features were measured on, two of a difference across them; empty for `shape` and for a
    ready-made table, which no volume gave."""
    return {modality[name] for name in sequences_of(group)}


def adjacency(nodes: Nodes, modality: Mapping[str, str]) -> NDArray[np.bool_]:
    """(N, N) symmetric, without self-loops.

    Joined are: every feature group with every other (so `shape` with all) and with every clinical value, because any
    pair of them may matter together; each place with those that share a face; and each group that was measured on
    images with every place of their modality, because a feature describes the whole tumour. Clinical values are not
    joined with each other, nor places of MR with those of CT: they meet through the groups, and in the pooling.

    Args:
        nodes: what there is.
        modality: `MR` or `CT` by name of sequence.
    """
    groups, first_place = len(nodes.groups), len(nodes.groups) + nodes.clinical
    size = first_place + nodes.mr + nodes.ct
    joined = np.zeros((size, size), dtype=bool)
    joined[:groups, :first_place] = True
    places = {"MR": slice(first_place, first_place + nodes.mr), "CT": slice(first_place + nodes.mr, size)}
    joined[places["MR"], places["MR"]] = grid(nodes.mr)
    joined[places["CT"], places["CT"]] = grid(nodes.ct)
    for position, group in enumerate(nodes.groups):
        for name in modalities_of(group, modality):
            joined[position, places[name]] = True
    joined |= joined.T
    np.fill_diagonal(joined, False)
    return joined


def normalised(joined: NDArray[np.bool_]) -> NDArray[np.float64]:
    """A_hat = D^-1/2 (A + I) D^-1/2, D the row sums of A + I (Kipf & Welling 2017, section 2.2); (N, N) symmetric."""
    looped = joined.astype(np.float64) + np.eye(len(joined))
    root = 1 / np.sqrt(looped.sum(axis=1))
    a_hat: NDArray[np.float64] = root[:, None] * looped * root[None]
    return a_hat


class GraphConvolution(nn.Module):
    """H + act(A_hat LN(H) W): eq. 2 of Kipf & Welling 2017 on normalised nodes, with a residual connection.

    (B, N, d) to (B, N, d). Without the residual, a few layers would make all nodes alike (Li 2018).
    """

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.weight = nn.Linear(width, width, bias=False)
        self.drop = nn.Dropout(dropout)

    def forward(self, nodes: Tensor, a_hat: Tensor) -> Tensor:
        """Nodes after one step along the edges; `a_hat` (N, N)."""
        mixed: Tensor = nodes + self.drop(F.gelu(torch.matmul(a_hat, self.weight(self.norm(nodes)))))
        return mixed
