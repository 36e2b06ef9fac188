"""What tells weights apart."""

from __future__ import annotations

import torch

from pacl.models.towers.base import weights_fingerprint


def test_a_fingerprint_depends_on_every_value_name_and_shape() -> None:
    weights = {"a": torch.randn(3, 4), "b": torch.zeros(0), "c": torch.arange(5)}
    first = weights_fingerprint(weights)
    assert first == weights_fingerprint({name: weights[name].clone() for name in "cba"})
    assert first == weights_fingerprint({**weights, "a": weights["a"].T.contiguous().T})
    for i in range(3):
        other = weights["a"].clone()
        other[i, i] = other[i, i].nextafter(torch.tensor(9.0))
        assert weights_fingerprint({**weights, "a": other}) != first
    assert weights_fingerprint({**weights, "a": weights["a"].reshape(4, 3)}) != first
    assert weights_fingerprint({"A": weights["a"], "b": weights["b"], "c": weights["c"]}) != first
