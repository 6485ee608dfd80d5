"""What the flow is measured against: last image, constant velocity, a recurrent network."""
import torch
from torch import Tensor, nn

from imn_world_model.prediction.fitting import Window


def stay(window: Window) -> tuple[Tensor, None]:
    """:return: the last coordinates seen, again and again."""
    last = window.mean[:, window.seen - 1:window.seen]
    return last.expand(-1, window.mean.shape[1] - window.seen, -1, -1), None


def coast(window: Window) -> tuple[Tensor, None]:
    """:return: coordinates that go on as a line through those seen, by least squares."""
    time = torch.cat((torch.zeros_like(window.seconds[:, :1]), window.seconds.cumsum(1)), 1)
    seen, ahead = time[:, :window.seen], time[:, window.seen:]
    mean = window.mean[:, :window.seen]
    late = (seen - seen.mean(1, keepdim=True))[:, :, None, None]
    rate = (late * mean).sum(1) / late.square().sum(1).clamp(min=1e-9)
    since = (ahead - seen.mean(1, keepdim=True))[:, :, None, None]
    return mean.mean(1, keepdim=True) + since * rate[:, None], None


class Recurrent(nn.Module):
    """
    A gated recurrent network over coordinates, actions and identity: no group, no time.

    What is seen is fed as it comes, what is not as predicted, as the deterministic path of a
    recurrent state-space model (arXiv:1811.04551) does.

    :param hidden: units.
    :param num_identities: n.
    :param mean: (K, m, L) coordinates, for scales.
    :param action: (K, A), for scales.
    """

    centre: Tensor
    spread: Tensor
    action_scale: Tensor

    def __init__(self, hidden: int, num_identities: int, mean: Tensor, action: Tensor) -> None:
        super().__init__()
        flat = mean.flatten(1)
        size, num_actions = flat.shape[1], action.shape[1]
        self.num_identities = num_identities
        self.cell = nn.GRUCell(size + num_actions + 1 + num_identities, hidden)
        self.change = nn.Linear(hidden, size)
        nn.init.zeros_(self.change.weight)
        nn.init.zeros_(self.change.bias)
        self.register_buffer('centre', flat.mean(0))
        self.register_buffer('spread', flat.std(0).clamp(min=1e-2))
        self.register_buffer('action_scale', action.square().mean(0).sqrt().clamp(min=1e-6))

    def forward(self, window: Window) -> tuple[Tensor, None]:
        """See :class:`fitting.Predictor`."""
        identity = nn.functional.one_hot(window.identity, self.num_identities).float()
        hidden = torch.zeros(len(identity), self.cell.hidden_size)
        place = (window.mean.flatten(2) - self.centre) / self.spread
        current, ahead = place[:, 0], []
        for k in range(window.action.shape[1]):
            if k < window.seen:
                current = place[:, k]
            hidden = self.cell(torch.cat((current, window.action[:, k] / self.action_scale,
                                          window.seconds[:, k:k + 1], identity), 1), hidden)
            current = current + self.change(hidden)
            if k >= window.seen - 1:
                ahead.append(current)
        means = torch.stack(ahead, 1) * self.spread + self.centre
        return means.reshape(len(means), -1, *window.mean.shape[2:]), None


def recurrent_like(flow: nn.Module, num_identities: int, mean: Tensor, action: Tensor,
                   seed: int) -> Recurrent:
    """:return: a recurrent network with about as many parameters as the flow."""
    wanted, size = num_parameters(flow), mean[0].numel()
    inputs = size + action.shape[1] + 1 + num_identities

    def count(hidden: int) -> int:
        """:return: parameters of the cell's three gates and of the layer above."""
        return 3 * hidden * (inputs + hidden + 2) + (hidden + 1) * size

    hidden = min(range(1, 4096), key=lambda hidden: abs(count(hidden) - wanted))
    torch.manual_seed(seed)
    return Recurrent(hidden, num_identities, mean, action)


def num_parameters(module: nn.Module) -> int:
    """:return: how many numbers a module learns."""
    return sum(value.numel() for value in module.parameters())
