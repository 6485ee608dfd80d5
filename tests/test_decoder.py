"""The decoder: one path for matrices, one for all candidates, the same answer."""
import torch

from imn_world_model.base.config import ModelConfig
from imn_world_model.model.combine import candidate_transforms
from imn_world_model.model.decoder import Decoder

CONFIG = ModelConfig(image_size=32, matrix_size=6, encoder_channels=(16, 32),
                     decoder_channels=(32, 16), decoder_hidden=32)


def test_hidden_of_candidates_matches_the_plain_path() -> None:
    torch.manual_seed(0)
    decoder = Decoder(CONFIG).double()
    with torch.no_grad():
        decoder.first.bias.normal_()
    subset_T = torch.randn(3, 7, 6, 6, dtype=torch.float64)
    identity_T = torch.randn(4, 6, 6, dtype=torch.float64)
    plain = decoder.hidden(candidate_transforms(subset_T, identity_T)).unflatten(1, (7, 4))
    assert (plain > 1).any() and (plain < 0).any()
    assert torch.allclose(decoder.hidden_of_candidates(subset_T, identity_T), plain)


def test_decoder_keeps_leading_axes_and_rows_apart() -> None:
    torch.manual_seed(0)
    decoder = Decoder(CONFIG)
    matrix = torch.eye(6) + 0.3 * torch.randn(2, 3, 6, 6)
    recon = decoder(matrix)
    assert recon.shape == (2, 3, 3, 32, 32)
    assert torch.allclose(recon[1, 2], decoder(matrix[1, 2]), atol=1e-5)
    assert decoder.coarse(decoder.hidden(matrix)).shape == (2, 3, 3, 8, 8)


def test_decoder_signal_survives_its_depth() -> None:
    # The default initialisation shrinks it a hundredfold: training then starts on a plateau.
    torch.manual_seed(0)
    decoder = Decoder(ModelConfig())
    matrix = torch.eye(20) + 0.2 * torch.randn(64, 20, 20)
    assert decoder(matrix).std(0).mean() > 0.05
