"""A run folder as a world model: what training and evaluation use of :mod:`world_model`."""
from dataclasses import dataclass

import numpy as np
import torch

from imn_world_model.learning.run import Run
from imn_world_model.model.observe import pixels
from imn_world_model.prediction.flow import GroupFlow
from imn_world_model.prediction.graph import DeployedFlow, DeployedPicture
from imn_world_model.prediction.training import load_flow
from imn_world_model.robot.world_model import WorldModel


@dataclass(frozen=True)
class Seen:
    """What a run's network says of B images, see :class:`world_model.Perceived`."""

    identity: np.ndarray
    active: np.ndarray
    latent_mean: np.ndarray
    latent_variance: np.ndarray


def world_model_of(run: Run, flow: GroupFlow | None = None) -> WorldModel:
    """
    Make a world model of a run and the dynamics in its folder, in torch.

    :param run: loaded run.
    :param flow: its dynamics; by default what :mod:`dynamics` left in the folder.
    :raises UserError: when there is no dynamics.
    """
    flow = load_flow(run) if flow is None else flow.eval()
    step, picture = DeployedFlow(flow).eval(), DeployedPicture(run.network).eval()

    @torch.no_grad()
    def perceive(images: np.ndarray) -> Seen:
        output = run.network(pixels(images))
        encoding = output.encoding
        return Seen(output.identity.numpy(), output.active.numpy(), encoding.mu.numpy(),
                    encoding.logvar.exp().numpy())

    @torch.no_grad()
    def move(*values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        mean, variance = step(*map(tensor, values))
        return mean.numpy(), variance.numpy()

    @torch.no_grad()
    def draw(*values: np.ndarray) -> np.ndarray:
        return picture(*map(tensor, values)).numpy()

    return WorldModel(perceive, move, draw, flow.config.action_names, flow.config.action_units,
                      flow.trust.detach().numpy())


def tensor(value: np.ndarray) -> torch.Tensor:
    """:return: a copy: views of one number for all rows may not be shared with torch."""
    return torch.from_numpy(value.copy())
