"""Compiled stages of a training step: the same numbers, compiled once."""
import shutil

import pytest
import torch

from imn_world_model.base.config import Config, override
from imn_world_model.base.errors import UserError
from imn_world_model.learning import stages
from imn_world_model.learning.presets import preset
from imn_world_model.learning.stages import Stages, stages_of
from imn_world_model.model.imn import IndependentModularNetwork
from imn_world_model.model.losses import Terms
from imn_world_model.model.winner import Answer, coarse_to_fine

CONFIG: Config = override(preset('debug'), ['model.num_modules=2', 'model.num_identities=2'])


def network() -> IndependentModularNetwork:
    torch.manual_seed(0)
    return IndependentModularNetwork(CONFIG.model, CONFIG.loss)


def step(own: IndependentModularNetwork, parts: Stages, kl_weight: float
         ) -> tuple[Answer, Terms, list[torch.Tensor]]:
    """:return: a step's answer, its loss terms, and gradients."""
    generator = torch.Generator().manual_seed(1)
    side, model = CONFIG.model.image_size, CONFIG.model
    image = torch.rand(8, 3, side, side, generator=generator)
    noise = torch.randn(8, model.num_modules, model.num_latents, generator=generator)
    weight = parts.number(kl_weight, image.device)
    own.zero_grad()
    parts.begin()
    encoding = parts.encode(image, noise, None)
    answer = parts.search(image, encoding, coarse_to_fine, weight, all_active=False)
    identity = answer.identity_scores.argmax(1)
    subset = answer.subset.gather(1, identity[:, None]).squeeze(1)
    terms, _ = parts.loss(image, encoding, subset, identity, weight, torch.arange(8) == 3, None)
    terms.total().mean().backward()
    return answer, terms, [each.grad.clone() for each in own.parameters() if each.grad is not None]


@pytest.mark.filterwarnings('ignore')                              # torch's of itself
@pytest.mark.skipif(shutil.which('g++') is None, reason='no g++ to compile with')
def test_compiled_stages_match_plain_ones_and_are_compiled_once() -> None:
    plain, other = network(), network()
    compiled = stages_of(other, 'reduce-overhead')
    assert compiled.compiled
    for kl_weight in (5.0, 4.0, 3.0):                 # falls with every step
        if kl_weight < 5.0:
            torch.compiler.set_stance('fail_on_recompile')
        try:
            answer, terms, gradients = step(other, compiled, kl_weight)
        finally:
            torch.compiler.set_stance('default')
        expected, terms_before, before = step(plain, stages_of(plain, 'none'), kl_weight)
        assert torch.allclose(answer.identity_scores, expected.identity_scores, rtol=1e-4)
        assert torch.equal(answer.subset, expected.subset)
        assert torch.allclose(terms.total(), terms_before.total(), rtol=1e-4)
        for ours, theirs in zip(gradients, before, strict=True):
            assert (ours - theirs).abs().max() <= 1e-3 * theirs.abs().max() + 1e-6


def test_what_compiling_lacks_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stages.importlib.util, 'find_spec', lambda _: None)
    monkeypatch.setattr('torch.cuda.is_available', lambda: True)
    monkeypatch.setattr('shutil.which', lambda name: name)
    with pytest.raises(UserError, match=r'needs triton .*or set train.compile=none'):
        stages_of(network(), 'reduce-overhead')
    monkeypatch.setattr('shutil.which', lambda _: None)
    with pytest.raises(UserError, match=r'train.compile is default, which needs a C\+\+ compiler'):
        stages_of(network(), 'default')
    assert not stages_of(network(), 'none').compiled
