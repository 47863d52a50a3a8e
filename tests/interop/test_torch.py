"""Networks in PyTorch: the same multiply-accumulates as by hand."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

from torch import nn  # noqa: E402

from mapgym.errors import SpecificationError  # noqa: E402
from mapgym.interop.torch import network, read_module  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning", "ignore::FutureWarning")


class Small(nn.Module):
    """One of each operator."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.up = nn.ConvTranspose2d(8, 4, 2, stride=2)
        self.linear = nn.Linear(4 * 16 * 16, 12)
        self.memory = nn.LSTM(12, 20, num_layers=2, batch_first=True, bidirectional=True)

    def forward(self, x):
        x = self.up(torch.relu(self.depthwise(self.conv(x))))
        rows = self.linear(x.flatten(1))[:, None, :].repeat(1, 5, 1)
        rows, _ = self.memory(rows)
        heads = rows.reshape(2, 5, 4, 10).transpose(1, 2)
        mixed = nn.functional.scaled_dot_product_attention(heads, heads, heads)
        return torch.einsum("bhsd,bhtd->bst", mixed, mixed)


def test_operators_by_hand() -> None:
    found = read_module(Small(), (torch.zeros(2, 3, 16, 16),))
    expected = 2 * 8 * 3 * 9 * 64 + 2 * 8 * 9 * 64 + 2 * 64 * 8 * 4 * 4 + 2 * 1024 * 12
    expected += 2 * (10 * 12 * 80 + 10 * 20 * 80) + 2 * (10 * 40 * 80 + 10 * 20 * 80)
    expected += 2 * (2 * 4 * 5 * 5 * 10) + 2 * 4 * 5 * 5 * 10
    assert found.network.macs == expected
    words = 8 * 3 * 9 + 8 * 9 + 8 * 4 * 4 + 1024 * 12 + 2 * (12 * 80 + 20 * 80) + 2 * (40 * 80 + 20 * 80)
    assert found.parameters == words
    assert found.network.name == "Small"
    assert "conv" in [layer.name for layer in found.network.layers]


def test_shared_keys_and_values() -> None:
    class Grouped(nn.Module):
        def forward(self, q, k, v):
            return nn.functional.scaled_dot_product_attention(q, k, v, enable_gqa=True)

    q, k = torch.zeros(1, 8, 6, 16), torch.zeros(1, 2, 6, 16)
    found = network(Grouped(), (q, k, k), "grouped")
    assert found.macs == 2 * 8 * 6 * 6 * 16
    # Four query heads are rows of one product.
    assert found.layers[0].workload.bound("M") == 24


def test_what_cannot_be_followed_is_refused() -> None:
    class Branching(nn.Module):
        def forward(self, x):
            return x @ x if x.sum() > 0 else x

    with pytest.raises(SpecificationError, match=r"torch\.export cannot follow the module"):
        network(Branching(), (torch.zeros(2, 2),))
    with pytest.raises(SpecificationError, match=r"no multiply-accumulates are known"):
        network(nn.ReLU(), (torch.zeros(2),))
