"""
Which identity takes which group of images in training, and how identities come apart.

The paper picks the best candidate image by image, from the first step on. Tried as it stands, the
identity becomes whatever saves most pixels first (the floor's hue). What it becomes is a matter of
order (let the modules learn what they can first), of sharing (views of one object decide
together) and of balance (no identity may starve before it had its chance); this file holds all
three.
After ``restart_until`` of the steps balance and restarts are off, the argmax of Eq. (9) is left.
"""
import torch
from torch import Tensor, nn

from imn_world_model.base.config import TrainConfig

# Memory of the running use, in steps: long enough that a batch's chance composition averages out,
# short against the time between restarts.
USAGE_MEMORY = 50
# Relative size of the difference between an identity and its perturbed copy.
COPY_NOISE = 0.02
# Share of a clip's running score that a new step makes up.
CLIP_RATE = 0.1


class IdentityAssignment(nn.Module):
    """
    Training's choice of the identity; its state is saved in checkpoints.

    :param num_identities: n.
    :param config: training options.
    """

    usage: Tensor
    margin: Tensor
    residual: Tensor
    wins: Tensor

    def __init__(self, num_identities: int, config: TrainConfig) -> None:
        super().__init__()
        self.config = config
        n = num_identities
        self.register_buffer('usage', torch.full((n,), 1.0 / n))     # running share of groups
        self.register_buffer('margin', torch.zeros(n))               # winner's lead, summed
        self.register_buffer('residual', torch.zeros(n))             # winner's loss, summed
        self.register_buffer('wins', torch.zeros(n))                 # groups since last restart

    def assign(self, identity_scores: Tensor, step: int) -> Tensor:
        """
        One identity for each group of views.

        :param identity_scores: (B, n); images of a group stand next to each other.
        :param step: optimiser step, from 0.
        :return: (B,) identity of every image.
        """
        n = identity_scores.shape[1]
        group_scores = identity_scores.unflatten(0, (-1, self.config.views)).sum(1)   # (groups, n)
        strength = self.config.balance * self.remaining(step)
        spread = group_scores.std(dim=1).mean()
        penalty = strength * spread * (self.usage * n).clamp(min=0.01).log()
        identity = (group_scores - penalty).argmax(dim=1)
        return identity.repeat_interleave(self.config.views)

    def observe(self, identity_scores: Tensor, identity: Tensor) -> None:
        """
        Keep account of who won, by how much, and how badly.

        :param identity_scores: (B, n) of the whole step, all devices.
        :param identity: (B,) from :meth:`assign`.
        """
        views, n = self.config.views, identity_scores.shape[1]
        group_scores = identity_scores.unflatten(0, (-1, views)).sum(1)
        chosen = torch.nn.functional.one_hot(identity[::views], n).to(group_scores.dtype)
        self.usage.lerp_(chosen.mean(0), 1.0 / USAGE_MEMORY)
        if n > 1:
            own = (group_scores * chosen).sum(1)
            others = group_scores.masked_fill(chosen.bool(), -torch.inf).amax(1)
            self.margin += ((own - others).clamp(min=0.0)[:, None] * chosen).sum(0)
        self.residual -= (group_scores * chosen).sum(0)
        self.wins += chosen.sum(0)

    @torch.no_grad()
    def rearrange(self, matrices: nn.Parameter, optimizer: torch.optim.Optimizer | None,
                  step: int, generator: torch.Generator) -> tuple[int, int] | None:
        """
        Split the one identity when its time is over; later restart the least useful one.

        The least useful identity is the one whose removal would cost least: the smallest sum of
        its leads over the runner-up. It becomes a slightly perturbed copy of the identity with the
        largest mean residual, where a second one may help most.

        :param matrices: ``identity_T`` (n, u, u), changed in place.
        :param optimizer: its moments of a rewritten matrix are cleared.
        :param step: optimiser steps done.
        :param generator: source of the perturbation.
        :return: (rewritten, copied) of a restart, else ``None``.
        """
        config = self.config
        n = len(matrices)
        if n == 1:
            return None
        if step == config.single_identity_steps > 0:
            for j in range(1, n):
                self._copy(matrices, optimizer, 0, j, generator)
            self._forget()
            self.usage.fill_(1.0 / n)
            return None
        since_split = step - config.single_identity_steps
        due = config.restart_every and since_split > 0 and since_split % config.restart_every == 0
        if not due or self.remaining(step) == 0.0:
            return None
        least = int(self.margin.argmin())
        worst = int((self.residual / self.wins.clamp(min=1.0))
                    .masked_fill(self.wins == 0, -torch.inf).argmax())
        self._forget()
        if least == worst:
            return None
        self._copy(matrices, optimizer, worst, least, generator)
        half = 0.5 * self.usage[worst]
        self.usage[worst] = half
        self.usage[least] = half
        self.usage /= self.usage.sum()
        return least, worst

    def remaining(self, step: int) -> float:
        """:return: 1 until identities come apart, then falling to 0 at ``restart_until``."""
        start = self.config.single_identity_steps
        end = max(self.config.restart_until * self.config.steps, start + 1)
        return min(1.0, max(0.0, (end - step) / (end - start)))

    @staticmethod
    def _copy(matrices: nn.Parameter, optimizer: torch.optim.Optimizer | None, source: int,
              target: int, generator: torch.Generator) -> None:
        noise = torch.randn(matrices.shape[1:], generator=generator).to(matrices)
        matrices[target] = matrices[source] + COPY_NOISE * noise
        if optimizer is not None:
            for value in optimizer.state.get(matrices, {}).values():
                if torch.is_tensor(value) and value.shape == matrices.shape:
                    value[target] = 0.0

    def _forget(self) -> None:
        self.margin.zero_()
        self.residual.zero_()
        self.wins.zero_()


class ClipMemory(nn.Module):
    """
    The choice where clips are known: all frames of a clip, over all steps, choose together.

    Starts with the identities that :mod:`discovery` found; a clip changes over when another
    identity explains it better in the long run.

    :param num_clips: K.
    :param num_identities: n.
    """

    scores: Tensor

    def __init__(self, num_clips: int, num_identities: int) -> None:
        super().__init__()
        self.register_buffer('scores', torch.zeros(num_clips, num_identities))

    def begin(self, identity: Tensor, lead: float) -> None:
        """
        Take over what was found.

        :param identity: (K,) int64.
        :param lead: in units of the score.
        """
        self.scores.fill_(-lead)
        self.scores[torch.arange(len(identity)), identity] = 0.0

    def assign(self, clip: Tensor) -> Tensor:
        """:return: (B,) the identity of each image's clip, from clips (B,)."""
        return self.scores[clip].argmax(1)

    def observe(self, clip: Tensor, identity_scores: Tensor) -> None:
        """
        Keep running means of the scores, relative to the best identity's.

        :param clip: (B,) of the whole step, all devices.
        :param identity_scores: (B, n), likewise.
        """
        lead = identity_scores - identity_scores.amax(1, keepdim=True)
        total = torch.zeros_like(self.scores).index_add_(0, clip, lead)
        count = torch.bincount(clip, minlength=len(self.scores))[:, None]
        mean = total / count.clamp(min=1)
        self.scores.copy_(torch.where(count > 0, self.scores.lerp(mean, CLIP_RATE), self.scores))
