"""What the ONNX file computes: an image in, its winner out."""
from dataclasses import replace

import torch
from torch import Tensor, nn

from imn_world_model.model.familiarity import Familiarity
from imn_world_model.model.imn import IndependentModularNetwork
from imn_world_model.model.winner import Strategy
from imn_world_model.robot.inference import OUTPUTS, STRANGENESS


def without_chance(network: IndependentModularNetwork) -> None:
    """Leave out the hessian form's price: a random number, which a robot's answer must not be."""
    if network.loss_config.independence == 'hessian':
        network.loss_config = replace(network.loss_config, independence_weight=0.0)


class DeployedNetwork(nn.Module):
    """
    What the ONNX file computes: the winner of an image, normalisation included.

    :param network: trained, in evaluation mode.
    :param strategy: how the winner is found.
    :param familiarity: of its identities; ``None`` without a recognizer.
    """

    def __init__(self, network: IndependentModularNetwork, strategy: Strategy,
                 familiarity: Familiarity | None = None) -> None:
        super().__init__()
        without_chance(network)
        self.network = network
        self.strategy = strategy
        self.familiarity = familiarity

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of what it gives."""
        return OUTPUTS if self.familiarity is None else (*OUTPUTS, STRANGENESS)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """
        Give what :attr:`outputs` names.

        :param image: (B, H, W, 3) uint8 RGB.
        """
        pixels = image.permute(0, 3, 1, 2).float() / 255.0
        look = seen = None
        if self.familiarity is not None and self.familiarity.looks is not None:
            recognizer = self.network.recognizer
            assert recognizer is not None
            pooled = recognizer.pooled(pixels)        # once for both
            look, seen = recognizer.look(pooled, pixels), recognizer.features(pooled)
        output = self.network(pixels, self.strategy, seen)
        recon = (output.recon.clamp(0.0, 1.0) * 255.0).round().to(torch.uint8)
        encoding = output.encoding
        answer = (output.identity, output.score, output.identity_scores, output.active,
                  output.transform, encoding.comp_T, encoding.mu, encoding.logvar.exp(),
                  recon.permute(0, 2, 3, 1))
        if self.familiarity is None:
            return answer
        assert encoding.features is not None
        return (*answer, self.familiarity(encoding.features, look))
