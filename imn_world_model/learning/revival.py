"""
Another chance for coordinates that hold nothing.

A coordinate whose posterior is the prior (posterior collapse) hands its module pure noise, so its
basis matrix shrinks; with the basis goes the gradient that could make the encoder use it. Where
factors come in late, because they are worth few pixels (how a cube is turned, where its shadow
falls), the way back is closed before they are worth their KL. Like the restarts of a codebook's
unused entries (Dhariwal et al. 2020, arXiv:2005.00341), an idle coordinate is made anew: of unit
variance over the batch, with little noise and a small basis. It keeps what it finds a use for.
"""
import torch
from torch import Tensor

from imn_world_model.model.modules import CompositionalModules
from imn_world_model.model.score import kl_divergence

# Nats below which a coordinate tells nothing of the image: on logs live ones had 0.2 to 3.5, idle
# ones 0.03 at most.
IDLE_KL = 0.1
# Log-variance of a new coordinate's posterior, a standard deviation of 0.22: noise enough to be
# cheap (1.5 nats), little enough to tell something.
NEW_LOGVAR = -3.0
# Size of a new basis matrix relative to the first ones'. Chosen so that renewals disturb little
# (a tenth more squared error for 250 steps), not tuned.
NEW_BASIS = 0.5


def idle_coordinates(mu: Tensor, logvar: Tensor) -> Tensor:
    """
    Which coordinates tell nothing.

    :param mu: (B, m, L) posterior means of a batch.
    :param logvar: (B, m, L).
    :return: (m, L) boolean, the mean KL divergence from the prior is below :data:`IDLE_KL`.
    """
    return kl_divergence(mu[..., None], logvar[..., None]).mean(0) < IDLE_KL


@torch.no_grad()
def renew(modules: CompositionalModules, idle: Tensor, basis_std: float,
          optimizer: torch.optim.Optimizer, generator: torch.Generator) -> None:
    """
    Give idle coordinates a random mean, a small variance and a small random basis.

    The mean is of no particular size yet, see :func:`standardize`.

    :param modules: changed in place.
    :param idle: (m, L) boolean.
    :param basis_std: standard deviation that basis matrices start with.
    :param optimizer: its moments of what is rewritten are cleared.
    :param generator: of the CPU, the source of the random numbers.
    """
    weight, bias, basis = modules.coordinates.weight, modules.coordinates.bias, modules.basis
    outputs = torch.cat((idle, idle), dim=1)                             # (m, 2L): mu, logvar
    direction = torch.randn(weight.shape, generator=generator).to(weight)
    direction[..., idle.shape[1]:] = 0.0                                 # logvar: the same for all
    level = torch.zeros_like(bias)
    level[..., idle.shape[1]:] = NEW_LOGVAR
    size = NEW_BASIS * basis_std * torch.randn(basis.shape, generator=generator).to(basis)
    for parameter, chosen, new in ((weight, outputs[:, None, :].expand_as(weight), direction),
                                   (bias, outputs[:, None, :], level),
                                   (basis, idle[..., None, None].expand_as(basis), size)):
        parameter[chosen] = new[chosen]
        for value in optimizer.state.get(parameter, {}).values():
            if torch.is_tensor(value) and value.shape == parameter.shape:
                value[chosen] = 0.0


@torch.no_grad()
def standardize(modules: CompositionalModules, idle: Tensor, mu: Tensor) -> None:
    """
    Bring renewed coordinates to mean 0 and variance 1 over a batch.

    :param modules: changed in place.
    :param idle: (m, L) boolean, the coordinates that were renewed.
    :param mu: (B, m, L), the batch's means since.
    """
    weight, bias = modules.coordinates.weight, modules.coordinates.bias
    means = slice(0, idle.shape[1])
    scale = torch.where(idle, 1.0 / mu.std(0, correction=0).clamp(min=1e-4), 1.0)     # (m, L)
    shift = torch.where(idle, mu.mean(0), 0.0)
    weight[..., means] *= scale[:, None, :]
    bias[..., means] = (bias[..., means] - shift[:, None, :]) * scale[:, None, :]
