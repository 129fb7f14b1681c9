"""Dropout from random bytes and the two forms of attention."""

import pytest
import torch
from refers.model.layers import Dropout, attention
from torch.nn import functional as F


def test_dropout_keeps_the_mean_and_drops_its_share():
    torch.manual_seed(0)
    dropped = Dropout(0.1)(torch.ones(400_000))
    assert float((dropped == 0).float().mean()) == pytest.approx(26 / 256, abs=0.003)
    assert float(dropped.mean()) == pytest.approx(1.0, abs=0.003)
    assert float(dropped.max()) == pytest.approx(256 / 230)


def test_dropout_is_a_function_of_the_seed_and_off_in_evaluation():
    layer, x = Dropout(0.5), torch.randn(3, 7, 11)
    torch.manual_seed(3)
    first = layer(x)
    torch.manual_seed(3)
    torch.testing.assert_close(layer(x), first)
    assert layer.eval()(x) is x


def test_dropout_passes_gradients_only_where_it_kept():
    x = torch.ones(1000, requires_grad=True)
    y = Dropout(0.5)(x)
    y.sum().backward()
    torch.testing.assert_close(x.grad, y.detach())


@pytest.mark.parametrize("masked", [False, True])
def test_plain_attention_equals_the_fused_kernel(masked):
    torch.manual_seed(0)
    query, key, value = (torch.randn(2, 3, 5, 8) for _ in range(3))
    mask = torch.ones(5, 5, dtype=torch.bool).tril() if masked else None
    expected = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    torch.testing.assert_close(attention(query, key, value, mask), expected)
    plain = attention(query.bfloat16(), key.bfloat16(), value.bfloat16(), mask)
    torch.testing.assert_close(plain.float(), expected, atol=0.03, rtol=0.03)
