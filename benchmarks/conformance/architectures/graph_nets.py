"""Graphs and sets: sums over neighbours by index_add, scatter and dense matrices; points without an order."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from benchmarks.conformance.architectures.architecture import Input, net

NODES, EDGES = 7, 12
FEATURES = Input("features", (NODES, 6))
FROM = Input("source", (EDGES,), below=NODES)
TO = Input("target", (EDGES,), below=NODES)
POINTS = Input("points", (3, 24))


def _flat(features: Tensor, source: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The graphs of a batch as one large graph."""
    offsets = torch.arange(features.shape[0]).unsqueeze(1) * NODES
    return features.flatten(0, 1), (source + offsets).flatten(), (target + offsets).flatten()


class _Gcn(nn.Module):
    """Kipf and Welling's convolution with index_add."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(6, 16), nn.Linear(16, 16)])
        self.head = nn.Linear(16, 3)

    def forward(self, features: Tensor, source: Tensor, target: Tensor) -> Tensor:
        x, begin, end = _flat(features, source, target)
        degree = torch.ones_like(x[:, 0]).index_add(0, end, torch.ones_like(end, dtype=x.dtype))
        scale = degree.rsqrt()
        norm = (scale[begin] * scale[end]).unsqueeze(1)
        for layer in self.layers:
            y = layer(x)
            x = (y * scale.square().unsqueeze(1)).index_add(0, end, y[begin] * norm).relu()
        return self.head(x.view(features.shape[0], NODES, 16).mean(1))  # type: ignore[no-any-return]


@net("gcn", "graphs", FEATURES, FROM, TO)
def gcn() -> nn.Module:
    """GCN."""
    return _Gcn()


class _Sage(nn.Module):
    """GraphSAGE: mean and maximum of the neighbours by scatter_reduce."""

    def __init__(self) -> None:
        super().__init__()
        self.own, self.near = nn.Linear(6, 16), nn.Linear(6, 16)
        self.own2, self.near2 = nn.Linear(16, 16), nn.Linear(16, 16)
        self.head = nn.Linear(16, 3)

    def forward(self, features: Tensor, source: Tensor, target: Tensor) -> Tensor:
        x, begin, end = _flat(features, source, target)
        for own, near, how in ((self.own, self.near, "sum"), (self.own2, self.near2, "amax")):
            index = end.unsqueeze(1).expand(-1, x.shape[1])
            gathered = torch.zeros_like(x).scatter_reduce(0, index, x[begin], how, include_self=True)
            x = (own(x) + near(gathered)).relu()
        return self.head(x.view(features.shape[0], NODES, 16).amax(1))  # type: ignore[no-any-return]


@net("graph_sage", "graphs", FEATURES, FROM, TO)
def graph_sage() -> nn.Module:
    """GraphSAGE."""
    return _Sage()


class _Gat(nn.Module):
    """Attention over edges: a softmax by scatter_add."""

    def __init__(self) -> None:
        super().__init__()
        self.project, self.score, self.head = nn.Linear(6, 16), nn.Linear(32, 1), nn.Linear(16, 3)

    def forward(self, features: Tensor, source: Tensor, target: Tensor) -> Tensor:
        x, begin, end = _flat(features, source, target)
        x = self.project(x)
        score = nn.functional.leaky_relu(self.score(torch.cat([x[begin], x[end]], 1)), 0.2).exp()
        index = end.unsqueeze(1)
        total = torch.zeros_like(x[:, :1]).scatter_add(0, index, score) + 1e-6
        weighted = x[begin] * score / total[end]
        x = torch.zeros_like(x).scatter_add(0, index.expand(-1, 16), weighted)
        return self.head(nn.functional.elu(x).view(features.shape[0], NODES, 16).mean(1))  # type: ignore[no-any-return]


@net("gat", "graphs", FEATURES, FROM, TO)
def gat() -> nn.Module:
    """GAT."""
    return _Gat()


class _DenseGin(nn.Module):
    """Sums over neighbours by a dense adjacency matrix."""

    def __init__(self) -> None:
        super().__init__()
        self.epsilon = nn.Parameter(torch.zeros(1))
        self.bodies = nn.ModuleList(
            [nn.Sequential(nn.Linear(width, 16), nn.ReLU(), nn.Linear(16, 16)) for width in (6, 16)]
        )
        self.head = nn.Linear(16, 3)

    def forward(self, features: Tensor, adjacency: Tensor) -> Tensor:
        x = features
        for body in self.bodies:
            x = body((1 + self.epsilon) * x + torch.bmm(adjacency, x)).relu()
        return self.head(x.sum(1))  # type: ignore[no-any-return]


@net("dense_gin", "graphs", FEATURES, Input("adjacency", (NODES, NODES)), formats=True)
def dense_gin() -> nn.Module:
    """GIN."""
    return _DenseGin()


class _PointNet(nn.Module):
    """Shared perceptrons, an input transform and a maximum over the points."""

    def __init__(self) -> None:
        super().__init__()
        self.turn = nn.Sequential(nn.Conv1d(3, 16, 1), nn.BatchNorm1d(16), nn.ReLU())
        self.matrix = nn.Linear(16, 9)
        self.body = nn.Sequential(nn.Conv1d(3, 16, 1), nn.BatchNorm1d(16), nn.ReLU(), nn.Conv1d(16, 32, 1))
        self.head = nn.Linear(32, 4)

    def forward(self, points: Tensor) -> Tensor:
        matrix = self.matrix(self.turn(points).amax(-1)).view(-1, 3, 3) + torch.eye(3)
        return self.head(self.body(torch.bmm(matrix, points)).amax(-1))  # type: ignore[no-any-return]


@net("pointnet", "graphs", POINTS, formats=True)
def pointnet() -> nn.Module:
    """PointNet."""
    return _PointNet()


class _Dgcnn(nn.Module):
    """Edges to the nearest points, found anew from the data."""

    def __init__(self) -> None:
        super().__init__()
        self.edge, self.head = nn.Sequential(nn.Conv2d(6, 16, 1), nn.LeakyReLU(0.2)), nn.Linear(16, 4)

    def forward(self, points: Tensor) -> Tensor:
        square = points.square().sum(1)
        distance = square.unsqueeze(2) - 2 * points.transpose(1, 2) @ points + square.unsqueeze(1)
        near = distance.topk(4, -1, largest=False).indices
        index = near.flatten(1).unsqueeze(1).expand(-1, 3, -1)
        there = points.gather(2, index).view(-1, 3, 24, 4)
        here = points.unsqueeze(3).expand_as(there)
        return self.head(self.edge(torch.cat([here, there - here], 1)).amax((2, 3)))  # type: ignore[no-any-return]


@net("dgcnn", "graphs", POINTS)
def dgcnn() -> nn.Module:
    """DGCNN."""
    return _Dgcnn()


class _SetTransformer(nn.Module):
    """Attention among points and pooling by learned queries."""

    def __init__(self) -> None:
        super().__init__()
        self.inlet, self.among = nn.Linear(3, 16), nn.MultiheadAttention(16, 2, batch_first=True)
        self.seeds, self.pool = (
            nn.Parameter(torch.randn(1, 2, 16)),
            nn.MultiheadAttention(16, 2, batch_first=True),
        )
        self.head = nn.Linear(32, 4)

    def forward(self, points: Tensor) -> Tensor:
        x = self.inlet(points.transpose(1, 2))
        x = x + self.among(x, x, x)[0]
        seeds = self.seeds.expand(points.shape[0], -1, -1)
        return self.head(self.pool(seeds, x, x)[0].flatten(1))  # type: ignore[no-any-return]


@net("set_transformer", "graphs", POINTS)
def set_transformer() -> nn.Module:
    """Set transformer."""
    return _SetTransformer()
