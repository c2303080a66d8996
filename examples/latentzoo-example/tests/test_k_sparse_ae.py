"""At most k of a code's numbers are other than zero, and they are the largest."""

import pytest
import torch

import zoo
from zoo.errors import SettingsError


def test_only_the_largest_stay():
    model = zoo.create("k_sparse_ae", active=5)
    images = torch.rand(4, 1, 28, 28)
    dense, codes = model.encoder(images.flatten(1)), model.encode(images)
    assert (codes != 0).sum(1).tolist() == [5] * 4
    for row, kept in zip(dense, codes, strict=True):
        assert set(kept[kept != 0].tolist()) == set(row.sort(descending=True).values[:5].tolist())


def test_sampled_codes_are_sparse_too():
    model = zoo.create("k_sparse_ae", active=5)
    codes = model._sample_codes(20, torch.Generator().manual_seed(0))
    assert int((codes != 0).sum(1).max()) <= 5


@pytest.mark.parametrize("config", [{"active": 0}, {"active": 129}, {"channels": 2}])
def test_refused_configs(config):
    with pytest.raises(SettingsError, match="k_sparse_ae: expected 1 or 3 channels"):
        zoo.create("k_sparse_ae", **config)
