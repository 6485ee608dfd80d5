"""
How actions move the coordinates: a flow on the group, learnt beside a frozen perception.

Letters as in :mod:`model`, and A numbers in an action, T steps. Per module i, identity j and
number k of the action a learned vector field ``field_ik(z, j)`` (L,) lies in the Lie algebra's
coordinates; an action moves them along

    dz_i / dt = sum_k a_k field_ik(z, j)

and the identity stays. Each action held is a one-parameter group: two half steps make one, no
action changes nothing, an action and its inverse return, all to the solver's accuracy. The
variance grows with what is done, never with time alone:

    dv_i / dt = sum_k |a_k| (noise_ik(z, j) + 2 sqrt(v_i) lasting_ik),  noise, lasting > 0

Errors of a rate that come and go add up as variances do, which is the first term. Those that last
(a field that is wrong here is wrong a little further on, too) add up as deviations do: alone the
second term makes ``sqrt(v)`` grow in proportion to the way.
"""
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Of one Runge-Kutta step, seconds; longer ones are divided by the callers.
MAX_STEP = 0.25
# A variance rate of about this at the start, per unit of scaled action and second; the same of
# deviations. Through softplus.
FIRST_NOISE = -4.0
# Below it a variance is taken for it: the slope of a root at 0 is not finite.
LEAST_VARIANCE = 1e-8


@dataclass(frozen=True)
class FlowConfig:
    """
    Sizes of a flow, and what its actions are.

    :param num_modules: m.
    :param num_latents: L.
    :param num_identities: n.
    :param action_names: of the A numbers, such as ``linear.x``.
    :param action_units: of each, such as ``m/s``.
    :param hidden: units of each of the two hidden layers.
    """

    num_modules: int
    num_latents: int
    num_identities: int
    action_names: tuple[str, ...]
    action_units: tuple[str, ...]
    hidden: int = 128

    @property
    def num_actions(self) -> int:
        """A."""
        return len(self.action_names)


class GroupFlow(nn.Module):
    """
    The vector fields and their integral.

    :param config: sizes.
    """

    centre: Tensor
    spread: Tensor
    action_scale: Tensor
    caution: Tensor

    def __init__(self, config: FlowConfig) -> None:
        super().__init__()
        self.config = config
        size = config.num_modules * config.num_latents
        self.first = nn.Linear(size + config.num_identities, config.hidden)
        self.second = nn.Linear(config.hidden, config.hidden)
        self.fields = nn.Linear(config.hidden, size * config.num_actions)
        self.noises = nn.Linear(config.hidden, size * config.num_actions)
        # Nothing moves before something is learnt.
        nn.init.zeros_(self.fields.weight)
        nn.init.zeros_(self.fields.bias)
        nn.init.zeros_(self.noises.weight)
        nn.init.constant_(self.noises.bias, FIRST_NOISE)
        self.lasting = nn.Parameter(torch.full((size, config.num_actions), FIRST_NOISE))
        # The perception's variances count as many times as this, logarithm: how much of an error
        # is new in every image differs from how far an image's coordinates may be off.
        self.log_trust = nn.Parameter(torch.zeros(size))
        # Factor on deviations that grow, from clips that training did not see.
        self.register_buffer('caution', torch.ones(size))
        self.register_buffer('centre', torch.zeros(size))
        self.register_buffer('spread', torch.ones(size))
        self.register_buffer('action_scale', torch.ones(config.num_actions))

    def measure(self, mean: Tensor, action: Tensor) -> None:
        """
        Take scales from data.

        :param mean: (K, m, L) coordinates.
        :param action: (K, A).
        """
        flat = mean.flatten(1)
        self.centre.copy_(flat.mean(0))
        self.spread.copy_(flat.std(0).clamp(min=1e-2))
        self.action_scale.copy_(action.square().mean(0).sqrt().clamp(min=1e-6))

    @property
    def trust(self) -> Tensor:
        """(m, L), factors on the variances that the perception tells of its coordinates."""
        return self.log_trust.exp().reshape(self.config.num_modules, self.config.num_latents)

    def rates(self, mean: Tensor, identity: Tensor, action: Tensor) -> Tensor:
        """
        What an action does at once.

        :param mean: (B, m, L).
        :param identity: (B, n) one-hot.
        :param action: (B, A).
        :return: rates of the coordinates (B, m, L) per second.
        """
        hidden = self._hidden(mean.flatten(1), self._offset(identity))
        return self._moved(hidden, action / self.action_scale).reshape(mean.shape)

    def _offset(self, identity: Tensor) -> Tensor:
        """:return: (B, hidden), what the first layer adds for an identity and for the centre."""
        size = len(self.centre)
        weight = self.first.weight
        centre = weight[:, :size] @ (self.centre / self.spread)
        return F.linear(identity, weight[:, size:], self.first.bias - centre)

    def _hidden(self, place: Tensor, offset: Tensor) -> Tensor:
        """:return: (B, hidden) of coordinates (B, m*L)."""
        weight = self.first.weight[:, :len(self.centre)] / self.spread
        return F.silu(self.second(F.silu(torch.addmm(offset, place, weight.mT))))

    def _moved(self, hidden: Tensor, scaled: Tensor) -> Tensor:
        """:return: (B, m*L), rates of the coordinates."""
        fields = self.fields(hidden).unflatten(1, (-1, self.config.num_actions))
        return torch.bmm(fields, scaled[:, :, None]).squeeze(2) * self.spread

    def _doubted(self, variance: Tensor, hidden: Tensor, scaled: Tensor, dt: Tensor) -> Tensor:
        """
        A step of the variances alone, of Runge-Kutta's fourth order.

        :param variance: (B, m*L).
        :param hidden: (B, hidden), halfway.
        :param dt: (B, 1) seconds.
        :return: (B, m*L), the variances then.
        """
        noises = F.softplus(self.noises(hidden)).unflatten(1, (-1, self.config.num_actions))
        deviation = self.caution * self.spread
        noise = torch.bmm(noises, scaled.abs()[:, :, None]).squeeze(2) * deviation.square()
        last = F.linear(scaled.abs(), F.softplus(self.lasting)) * deviation

        def rate(now: Tensor) -> Tensor:
            return noise + 2 * last * now.clamp(min=LEAST_VARIANCE).sqrt()

        k1 = rate(variance)
        k2 = rate(variance + dt / 2 * k1)
        k3 = rate(variance + dt / 2 * k2)
        k4 = rate(variance + dt * k3)
        return variance + dt / 6 * (k1 + 2 * (k2 + k3) + k4)

    def step(self, mean: Tensor, variance: Tensor, identity: Tensor, action: Tensor,
             seconds: Tensor) -> tuple[Tensor, Tensor]:
        """
        The flow over a time: a step of Runge-Kutta's fourth order, noise taken from halfway.

        :param mean: (B, m, L).
        :param variance: (B, m, L).
        :param identity: (B, n) one-hot.
        :param action: (B, A), held.
        :param seconds: (B,), at most :data:`MAX_STEP`.
        :return: mean and variance then.
        """
        dt, scaled, offset = seconds[:, None], action / self.action_scale, self._offset(identity)
        place = mean.flatten(1)
        k1 = self._moved(self._hidden(place, offset), scaled)
        k2 = self._moved(self._hidden(place + dt / 2 * k1, offset), scaled)
        middle = self._hidden(place + dt / 2 * k2, offset)
        k3 = self._moved(middle, scaled)
        k4 = self._moved(self._hidden(place + dt * k3, offset), scaled)
        then = place + dt / 6 * (k1 + 2 * (k2 + k3) + k4)
        doubt = self._doubted(variance.flatten(1), middle, scaled, dt)
        return then.reshape(mean.shape), doubt.reshape(mean.shape)

    def forward(self, mean: Tensor, variance: Tensor, identity: Tensor, action: Tensor,
                seconds: Tensor) -> tuple[Tensor, Tensor]:
        """
        The flow over any time, in equal parts of at most :data:`MAX_STEP`.

        :param mean: (B, m, L).
        :param variance: (B, m, L).
        :param identity: (B,) int64.
        :param action: (B, A), held.
        :param seconds: (B,), not negative.
        :return: mean and variance then.
        """
        one_hot = F.one_hot(identity, self.config.num_identities).to(mean.dtype)
        parts = num_parts(float(seconds.max()))
        for _ in range(parts):
            mean, variance = self.step(mean, variance, one_hot, action, seconds / parts)
        return mean, variance

    def rollout(self, mean: Tensor, variance: Tensor, identity: Tensor, action: Tensor,
                seconds: Tensor) -> tuple[Tensor, Tensor]:
        """
        Several actions after each other.

        :param mean: (B, m, L).
        :param variance: (B, m, L).
        :param identity: (B,) int64.
        :param action: (B, T, A).
        :param seconds: (B, T).
        :return: means and variances after each (B, T, m, L).
        """
        means, variances = [], []
        for k in range(action.shape[1]):
            mean, variance = self(mean, variance, identity, action[:, k], seconds[:, k])
            means.append(mean)
            variances.append(variance)
        return torch.stack(means, 1), torch.stack(variances, 1)


def num_parts(seconds: float) -> int:
    """:return: how many steps a time is divided into."""
    return max(1, int(-(-(seconds - 1e-4) // MAX_STEP)))
