"""The recognizer: signatures are written into matrices exactly; evidence is a distribution."""
from dataclasses import replace

import pytest
import torch

from imn_world_model.base.errors import UserError
from imn_world_model.learning.presets import preset
from imn_world_model.model.imn import IndependentModularNetwork
from imn_world_model.model.modules import IdentityModules
from imn_world_model.model.recognition import Recognizer, standing_out

MODEL = replace(preset('objects').model, num_identities=7)


@pytest.mark.parametrize('n', [2, 7, 500])
def test_write_gives_identities_their_signatures(n: int) -> None:
    torch.manual_seed(0)
    recognizer = Recognizer(MODEL)
    matrices = IdentityModules(replace(MODEL, num_identities=n)).matrices
    wanted = torch.nn.functional.normalize(torch.randn(n, MODEL.signature_size), dim=1)
    wanted = torch.nn.functional.normalize(wanted - wanted.mean(0), dim=1)
    recognizer.write(matrices, wanted)
    with torch.no_grad():
        cosine = (recognizer.signatures(matrices) * wanted).sum(1)
    assert cosine.min() > 0.95                        # what all share is told by none


def test_what_all_identities_share_leaves_signatures_alone() -> None:
    torch.manual_seed(0)
    recognizer = Recognizer(MODEL)
    matrices = torch.randn(7, 20, 20)
    moved = matrices + torch.randn(20, 20)
    with torch.no_grad():
        torch.testing.assert_close(recognizer.signatures(moved), recognizer.signatures(matrices),
                                   atol=1e-5, rtol=0)


def test_evidence_is_a_log_probability_and_names_the_nearest_signature() -> None:
    torch.manual_seed(0)
    recognizer = Recognizer(MODEL)
    matrices = torch.randn(7, 20, 20)
    with torch.no_grad():
        signatures = recognizer.signatures(matrices)
        evidence = recognizer.evidence(signatures, matrices)
    torch.testing.assert_close(evidence.exp().sum(1), torch.ones(7))
    assert evidence.argmax(1).tolist() == list(range(7))


def test_frozen_recognizer_keeps_its_features_while_the_rest_trains() -> None:
    torch.manual_seed(0)
    network = IndependentModularNetwork(MODEL, preset('objects').loss)
    recognizer = network.recognizer
    assert recognizer is not None
    recognizer.freeze()
    network.train()
    before = {name: value.clone() for name, value in recognizer.body.state_dict().items()}
    recognizer.features(torch.rand(4, 3, 64, 64))
    after = recognizer.body.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert not any(value.requires_grad for value in recognizer.head.parameters())
    assert recognizer.readout.requires_grad


def test_more_features_than_a_matrix_holds_are_refused() -> None:
    with pytest.raises(UserError, match='are 303 together, more than the 100'):
        Recognizer(replace(MODEL, matrix_size=10))


def test_auto_identities_without_a_recognizer_are_refused() -> None:
    with pytest.raises(UserError, match="'auto', which takes a recognizer"):
        replace(preset('clips').model, num_identities=0)


def test_what_stands_out_is_weighed_and_the_rim_is_not() -> None:
    torch.manual_seed(0)
    maps = 0.1 * torch.rand(2, 16, 7, 7) + torch.rand(2, 16, 1, 1)       # a table
    thing = torch.randn(2, 16, 1, 1)
    maps[:, :, 3:5, 2:4] = thing + 0.1 * torch.rand(2, 16, 2, 2)
    weight = standing_out(maps)
    torch.testing.assert_close(weight.sum((1, 2)), torch.ones(2))
    assert (weight[:, 3:5, 2:4].sum((1, 2)) > 0.9).all()
    even = standing_out(torch.ones(1, 16, 7, 7))                         # nothing stands out
    assert even[0, 3, 3] == even.max() and torch.isfinite(even).all()


@pytest.mark.parametrize('kind', ['conv', 'efficientnet_lite0'])
def test_recognizer_sees_the_input_and_modules_see_it_reduced(kind: str) -> None:
    torch.manual_seed(0)
    model = replace(MODEL, recognizer=kind, input_size=128, recognizer_components=0,
                    recognizer_outlines=0, recognizer_colours=0)
    network = IndependentModularNetwork(model, preset('objects').loss).eval()
    recognizer = network.recognizer
    assert recognizer is not None
    sharp = torch.rand(2, 3, 128, 128)
    with torch.no_grad():
        output = network(sharp)
        blurred = network.reduced(sharp)
        assert output.recon.shape == blurred.shape == (2, 3, 64, 64)
        torch.testing.assert_close(output.encoding.mu, network.encode(blurred).mu)
        torch.testing.assert_close(output.encoding.evidence, recognizer.evidence(
            recognizer.features(sharp), network.identities()))
        gone = (recognizer.features(sharp) - recognizer.features(blurred)).abs().max()
    assert gone > 1e-3


def test_input_that_is_no_multiple_of_the_picture_is_refused() -> None:
    with pytest.raises(UserError, match='input_size 100 is not a multiple'):
        replace(MODEL, input_size=100)


def test_half_of_a_comparison_is_by_what_was_learnt() -> None:
    torch.manual_seed(0)
    recognizer, images = Recognizer(MODEL).eval(), torch.rand(20, 3, 64, 64)
    assert recognizer.components is not None
    recognizer.components.fit(recognizer.components.values(images))
    with torch.no_grad():
        features, learnt = recognizer.features(images), recognizer.learnt(images)
    torch.testing.assert_close(features.norm(dim=1), torch.ones(20))
    torch.testing.assert_close(features, torch.cat((learnt, recognizer.components(images)), 1)
                               / 2 ** 0.5)
    assert features.shape[1] == MODEL.signature_size


def test_recognizer_of_a_run_from_before_outlines_is_read() -> None:
    torch.manual_seed(0)
    model = replace(MODEL, recognizer_outlines=0, recognizer_colours=0)
    old = Recognizer(model).state_dict()
    mean, axes = torch.rand(3 * 32 ** 2), torch.rand(50, 3 * 32 ** 2)
    del old['components.parts.0.mean'], old['components.parts.0.axes']
    recognizer = Recognizer(model)
    recognizer.load_state_dict({**old, 'small_mean': mean, 'small_axes': axes})
    assert recognizer.components is not None
    found = recognizer.components.state_dict()
    assert torch.equal(found['parts.0.mean'], mean) and torch.equal(found['parts.0.axes'], axes)
