"""Tables and recommendation: numbers and categories."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from benchmarks.conformance.architectures.architecture import Input, net

NUMBERS = Input("numbers", (10,))
KINDS = Input("kinds", (4,), below=12)


class _WithEmbeddings(nn.Module):
    """Each category has its own table; all is joined and passes a perceptron with BatchNorm."""

    def __init__(self) -> None:
        super().__init__()
        self.tables = nn.ModuleList([nn.Embedding(12, 4) for _ in range(4)])
        self.body = nn.Sequential(
            *(nn.Linear(26, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.1)),
            *(nn.Linear(32, 16), nn.GELU(), nn.Linear(16, 1)),
        )

    def forward(self, numbers: Tensor, kinds: Tensor) -> Tensor:
        parts = [table(kinds[:, i]) for i, table in enumerate(self.tables)]
        return self.body(torch.cat([numbers, *parts], 1))  # type: ignore[no-any-return]


@net("mlp_embeddings", "tables", NUMBERS, KINDS, formats=True)
def mlp_embeddings() -> nn.Module:
    """A perceptron with embeddings."""
    return _WithEmbeddings()


@net("mlp", "tables", NUMBERS, formats=True)
def mlp() -> nn.Module:
    """A perceptron."""
    return nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 16), nn.Tanh(), nn.Linear(16, 3))


@net("selu_mlp", "tables", NUMBERS)
def selu_mlp() -> nn.Module:
    """A self-normalising perceptron with other activations."""
    return nn.Sequential(
        *(nn.Linear(10, 16), nn.SELU(), nn.Linear(16, 16), nn.ELU(), nn.Linear(16, 16), nn.Mish()),
        *(
            nn.Linear(16, 16),
            nn.PReLU(16),
            nn.Linear(16, 16),
            nn.Softplus(),
            nn.Linear(16, 16),
            nn.Hardswish(),
        ),
        *(nn.Linear(16, 16), nn.LeakyReLU(), nn.Linear(16, 16), nn.CELU(), nn.Linear(16, 4), nn.Softsign()),
    )


class _FtTransformer(nn.Module):
    """Each column becomes a token."""

    def __init__(self) -> None:
        super().__init__()
        self.scale, self.shift = nn.Parameter(torch.randn(10, 16)), nn.Parameter(torch.randn(10, 16))
        self.table = nn.Embedding(48, 16)
        self.register_buffer("offsets", torch.arange(4) * 12)
        self.token = nn.Parameter(torch.randn(1, 1, 16))
        self.layers = nn.ModuleList(
            [
                nn.TransformerEncoderLayer(16, 2, 32, 0.0, "gelu", batch_first=True, norm_first=True)
                for _ in range(2)
            ]
        )
        self.head = nn.Sequential(nn.LayerNorm(16), nn.ReLU(), nn.Linear(16, 1))

    def forward(self, numbers: Tensor, kinds: Tensor) -> Tensor:
        columns = numbers.unsqueeze(-1) * self.scale + self.shift
        x = torch.cat(
            [self.token.expand(numbers.shape[0], -1, -1), columns, self.table(kinds + self.offsets)], 1
        )
        for layer in self.layers:
            x = layer(x)
        return self.head(x[:, 0])  # type: ignore[no-any-return]


@net("ft_transformer", "tables", NUMBERS, KINDS)
def ft_transformer() -> nn.Module:
    """FT-Transformer."""
    return _FtTransformer()


def _sparsemax(x: Tensor) -> Tensor:
    """Martins and Astudillo 2016, algorithm 1."""
    ordered = x.sort(-1, descending=True).values
    counts = torch.arange(1, x.shape[-1] + 1, dtype=x.dtype)
    sums = ordered.cumsum(-1)
    support = 1 + counts * ordered > sums
    size = support.sum(-1, keepdim=True)
    threshold = (sums.gather(-1, size - 1) - 1) / size.to(x.dtype)
    return (x - threshold).clamp_min(0)


class _TabNet(nn.Module):
    """Two steps that each choose columns by sparsemax."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.shared = nn.BatchNorm1d(10), nn.Linear(10, 32)
        self.choose = nn.ModuleList([nn.Linear(8, 10) for _ in range(2)])
        self.own = nn.ModuleList([nn.Linear(16, 32) for _ in range(2)])
        self.head = nn.Linear(8, 2)

    def forward(self, numbers: Tensor) -> Tensor:
        x = self.norm(numbers)
        seen, prior = nn.functional.glu(self.shared(x))[:, 8:], torch.ones_like(x)
        total = torch.zeros_like(seen)
        for choose, own in zip(self.choose, self.own, strict=True):
            mask = _sparsemax(choose(seen) * prior)
            prior = prior * (1.3 - mask)
            y = nn.functional.glu(own(nn.functional.glu(self.shared(mask * x))))
            total, seen = total + y[:, :8].relu(), y[:, 8:]
        return self.head(total)  # type: ignore[no-any-return]


@net("tabnet", "tables", NUMBERS)
def tabnet() -> nn.Module:
    """TabNet."""
    return _TabNet()


class _Dlrm(nn.Module):
    """Bags of categories and numbers, all pairs multiplied."""

    def __init__(self) -> None:
        super().__init__()
        self.bottom = nn.Sequential(nn.Linear(10, 16), nn.ReLU(), nn.Linear(16, 8), nn.ReLU())
        self.bags = nn.ModuleList([nn.EmbeddingBag(12, 8, mode="sum") for _ in range(2)])
        self.top = nn.Sequential(nn.Linear(11, 16), nn.ReLU(), nn.Linear(16, 1), nn.Sigmoid())

    def forward(self, numbers: Tensor, first: Tensor, second: Tensor) -> Tensor:
        dense = self.bottom(numbers)
        parts = torch.stack([dense, self.bags[0](first), self.bags[1](second)], 1)
        pairs = parts @ parts.transpose(1, 2)
        rows, columns = torch.tensor([1, 2, 2]), torch.tensor([0, 0, 1])
        return self.top(torch.cat([dense, pairs[:, rows, columns]], 1))  # type: ignore[no-any-return]


@net("dlrm", "tables", NUMBERS, Input("first", (3,), below=12), Input("second", (2,), below=12))
def dlrm() -> nn.Module:
    """DLRM with embedding bags."""
    return _Dlrm()


class _Ncf(nn.Module):
    """Neural collaborative filtering: a product and a perceptron side by side."""

    def __init__(self) -> None:
        super().__init__()
        self.users, self.items = nn.Embedding(50, 16), nn.Embedding(40, 16)
        self.mlp, self.head = nn.Sequential(nn.Linear(16, 8), nn.ReLU()), nn.Linear(16, 1)

    def forward(self, user: Tensor, item: Tensor) -> Tensor:
        (a, b), (c, d) = self.users(user).chunk(2, -1), self.items(item).chunk(2, -1)
        return self.head(torch.cat([a * c, self.mlp(torch.cat([b, d], -1))], -1)).squeeze(-1)  # type: ignore[no-any-return]


@net("ncf", "tables", Input("user", (), below=50), Input("item", (), below=40), formats=True)
def ncf() -> nn.Module:
    """NCF: its inputs are single numbers a row."""
    return _Ncf()


class _DeepFm(nn.Module):
    """A factorisation machine next to a perceptron, over one table with offsets."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Embedding(48, 1), nn.Embedding(48, 8)
        self.deep = nn.Sequential(nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 1))
        self.register_buffer("offsets", torch.arange(4) * 12)

    def forward(self, kinds: Tensor) -> Tensor:
        places = kinds + self.offsets
        x = self.second(places)
        crossed = 0.5 * (x.sum(1).square() - x.square().sum(1)).sum(1, keepdim=True)
        return (self.first(places).sum(1) + crossed + self.deep(x.flatten(1))).sigmoid()  # type: ignore[no-any-return]


@net("deepfm", "tables", KINDS, formats=True)
def deepfm() -> nn.Module:
    """DeepFM."""
    return _DeepFm()


class _CrossNet(nn.Module):
    """DCN v2."""

    def __init__(self) -> None:
        super().__init__()
        self.cross = nn.ModuleList([nn.Linear(10, 10) for _ in range(3)])
        self.head = nn.Linear(10, 1)

    def forward(self, numbers: Tensor) -> Tensor:
        x = numbers
        for layer in self.cross:
            x = numbers * layer(x) + x
        return self.head(x)  # type: ignore[no-any-return]


@net("dcn_v2", "tables", NUMBERS)
def dcn_v2() -> nn.Module:
    """Deep and cross net."""
    return _CrossNet()


class _TwoTowers(nn.Module):
    """Users and items meet in a cosine."""

    def __init__(self) -> None:
        super().__init__()
        self.user = nn.Sequential(nn.Embedding(50, 16), nn.Linear(16, 8))
        self.item = nn.Sequential(nn.Linear(10, 16), nn.ReLU(), nn.Linear(16, 8))

    def forward(self, user: Tensor, numbers: Tensor) -> Tensor:
        a, b = (nn.functional.normalize(x, dim=-1) for x in (self.user(user), self.item(numbers)))
        return (a * b).sum(-1, keepdim=True) / 0.1


@net("two_towers", "tables", Input("user", (), below=50), NUMBERS)
def two_towers() -> nn.Module:
    """Two towers."""
    return _TwoTowers()


class _Experts(nn.Module):
    """A mixture of experts: the two best by a gate, all computed and weighted."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Linear(10, 4)
        self.inlet, self.outlet = nn.Parameter(torch.randn(4, 10, 16)), nn.Parameter(torch.randn(4, 16, 3))

    def forward(self, numbers: Tensor) -> Tensor:
        best, where = self.gate(numbers).topk(2, -1)
        weights = torch.zeros_like(self.gate(numbers)).scatter(1, where, best.softmax(-1))
        y = torch.einsum("bi,eio->beo", numbers, self.inlet).relu()
        return torch.einsum("beo,eoc,be->bc", y, self.outlet, weights)


@net("experts", "tables", NUMBERS)
def experts() -> nn.Module:
    """Mixture of experts."""
    return _Experts()


class _Siamese(nn.Module):
    """One net for both inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(10, 16), nn.ReLU(), nn.Linear(16, 8))
        self.head = nn.Bilinear(8, 8, 2)

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        return self.head(self.body(left), self.body(right))  # type: ignore[no-any-return]


@net("siamese", "tables", Input("left", (10,)), Input("right", (10,)), formats=True)
def siamese() -> nn.Module:
    """Siamese net with a bilinear head."""
    return _Siamese()


class _ActorCritic(nn.Module):
    """Two heads of different size."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(10, 32), nn.Tanh(), nn.LayerNorm(32))
        self.policy, self.value = nn.Linear(32, 4), nn.Linear(32, 1)

    def forward(self, numbers: Tensor) -> tuple[Tensor, Tensor]:
        x = self.body(numbers)
        return self.policy(x).log_softmax(-1), self.value(x)


@net("actor_critic", "tables", NUMBERS)
def actor_critic() -> nn.Module:
    """Policy and value."""
    return _ActorCritic()
