"""Eq. (4) and (5): combinations against nested loops."""
from itertools import combinations

import pytest
import torch

from imn_world_model.model.combine import (
    active_product,
    candidate_transforms,
    subset_mask_tensor,
    subset_masks,
    subset_transforms,
)


@pytest.mark.parametrize('num_modules', [1, 2, 3, 5])
def test_subset_masks_are_all_nonempty_subsets_once(num_modules: int) -> None:
    masks = subset_masks(num_modules)
    found = {tuple(k for k, on in enumerate(mask) if on) for mask in masks}
    expected = {subset for size in range(1, num_modules + 1)
                for subset in combinations(range(num_modules), size)}
    assert found == expected
    assert len(masks) == 2 ** num_modules - 1


@pytest.mark.parametrize('num_modules', [1, 2, 4, 5])
def test_subset_transforms_match_nested_loops(num_modules: int) -> None:
    torch.manual_seed(0)
    comp_T = torch.randn(3, num_modules, 4, 4, dtype=torch.float64)
    subset_T = subset_transforms(comp_T)
    for p, mask in enumerate(subset_masks(num_modules)):
        for b in range(3):
            product = torch.eye(4, dtype=torch.float64)
            for k in range(num_modules):             # increasing order: they do not commute
                if mask[k]:
                    product = product @ comp_T[b, k]
            assert torch.allclose(subset_T[b, p], product)


def test_candidate_transforms_match_nested_loops() -> None:
    torch.manual_seed(0)
    subset_T, identity_T = torch.randn(2, 7, 3, 3), torch.randn(4, 3, 3)
    cand_T = candidate_transforms(subset_T, identity_T)
    assert cand_T.shape == (2, 28, 3, 3)
    for b in range(2):
        for p in range(7):
            for j in range(4):
                assert torch.allclose(cand_T[b, p * 4 + j], subset_T[b, p] @ identity_T[j],
                                      atol=1e-6)


def test_active_product_matches_subset_transforms() -> None:
    torch.manual_seed(0)
    comp_T = torch.randn(31, 5, 4, 4, dtype=torch.float64)
    masks = subset_mask_tensor(5)
    rows = torch.arange(31)
    assert torch.allclose(active_product(comp_T, masks), subset_transforms(comp_T)[rows, rows])
    none = active_product(comp_T, torch.zeros(31, 5, dtype=torch.bool))
    assert torch.equal(none, torch.eye(4, dtype=torch.float64).expand(31, 4, 4))
