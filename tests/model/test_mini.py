import torch
from transformers import Qwen2_5_VLForConditionalGeneration

from star_r1.model.mini import build_model


def test_it_is_the_upstream_class_and_small() -> None:
    model = build_model()
    assert type(model) is Qwen2_5_VLForConditionalGeneration
    assert 4 * sum(p.numel() for p in model.parameters()) < 25e6


def test_weights_follow_from_the_seed_and_leave_the_generator_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    one, two, other = build_model(1), build_model(1), build_model(2)
    assert torch.equal(torch.rand(1), expected)
    for a, b in zip(one.parameters(), two.parameters(), strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(one.lm_head.weight, other.lm_head.weight)
