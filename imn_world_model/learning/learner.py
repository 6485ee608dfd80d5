"""One training step, and what happens between steps: the network inside Lightning's loop."""
import math
from typing import Any

import lightning
import torch
from torch import Tensor

from imn_world_model.base.config import Config
from imn_world_model.base.errors import UserError
from imn_world_model.learning.discovery import Discovery
from imn_world_model.learning.identities import ClipMemory, IdentityAssignment
from imn_world_model.learning.revival import idle_coordinates, renew, standardize
from imn_world_model.learning.stages import stages_of
from imn_world_model.model.imn import IndependentModularNetwork
from imn_world_model.model.losses import radius_variance, subspace_error
from imn_world_model.model.winner import STRATEGIES

WARM_UP_STEPS = 100
# Steps over which the radius' weight rises.
RADIUS_STEPS = 250
# Steps over which the decoder's rate rises above the others'.
DECODER_STEPS = 500
# Of Adam. With the usual memory of squared gradients, 1,000 steps, those of the first steps, when
# nothing is right yet, hold the rate down for long.
BETAS = (0.9, 0.95)
# Nats of recognition by which a clip prefers the identity that it was found to have.
CLIP_LEAD = 5.0
# The rate ends at this share of its peak.
FINAL_RATE = 0.02
# Steps between looks at a card's losses.
WATCHED_EVERY = 25
# Losses are sums over an image's pixels, so gradients are large; clipped at this norm, all steps
# of the early phase weigh the same in Adam's moments.
MAX_GRADIENT_NORM = 200.0


class Learner(lightning.LightningModule):
    """
    Winner-takes-all training of Eq. (10), with shared identities and their schedule.

    :param config: the whole run.
    :param num_labels: classes of the ID classifier; 0 leaves it out.
    :param discovery: what the first stage found, with a recognizer.
    """

    def __init__(self, config: Config, num_labels: int = 0,
                 discovery: Discovery | None = None) -> None:
        super().__init__()
        self.config = config
        self.network = IndependentModularNetwork(config.model, config.loss, num_labels)
        self.stages = stages_of(self.network, config.train.compile)
        self.assignment = IdentityAssignment(config.model.num_identities, config.train)
        # Whether all losses since the start were numbers; a tensor on the loss' device.
        self._finite: Tensor | bool = True
        self.clips: ClipMemory | None = None
        if discovery is not None:
            recognizer = self.network.recognizer
            assert recognizer is not None
            recognizer.load_state_dict(discovery.recognizer)
            recognizer.freeze()
            recognizer.write(self.network.identities.matrices, discovery.signature)
            self.clips = ClipMemory(len(discovery.identity), config.model.num_identities)
            self.clips.begin(discovery.identity, CLIP_LEAD * config.loss.recognition_weight)

    def load_state_dict(self, state_dict: Any, *options: Any, **more: Any) -> Any:
        """Take weights over; a recognizer that came after them (:mod:`votes`) will come again."""
        if self.network.recognizer is None:
            state_dict = {name: value for name, value in state_dict.items()
                          if not name.startswith('network.recognizer.')}
        return super().load_state_dict(state_dict, *options, **more)

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """Find the winners, then let them learn. :return: the mean loss."""
        step, train, image = self.global_step, self.config.train, batch['image']
        label = batch.get('label')
        kl_weight = self.stages.number(self.kl_weight(step), image.device)
        self._rearrange(step)
        self._revive(image, step)
        torch.manual_seed(self._step_seed(step))     # resuming needs no state of the generator
        noise, use_group_feature = self._chance(step, len(image))

        self.stages.begin()
        encoding = self.stages.encode(image, noise, batch.get('seen'))
        whole = len(self.network.masks) - 1                              # all modules
        if self.clips is not None and step < train.all_modules_steps:
            identity = self.clips.assign(batch['clip'])
            subset = torch.full_like(identity, whole)
        elif step < train.single_identity_steps:
            identity = torch.zeros_like(image[:, 0, 0, 0], dtype=torch.long)
            subset = torch.full_like(identity, whole)
        else:
            answer = self.stages.search(image, encoding, STRATEGIES[train.search], kl_weight,
                                        all_active=step < train.all_modules_steps)
            scores = answer.identity_scores                              # (B, n)
            if label is not None and self.network.classifier is not None:
                costs = self.network.classifier.identity_costs(self.network.identities(), label)
                scores = scores - self.config.loss.classifier_weight * costs
            if self.clips is not None:
                # What the picture says counts from here on: the decoder knows the identities.
                self.clips.observe(self._everyone(batch['clip']), self._everyone(scores))
                identity = self.clips.assign(batch['clip'])
            else:
                identity = self.assignment.assign(scores, step)
                self.assignment.observe(self._everyone(scores), self._everyone(identity))
            subset = answer.subset.gather(1, identity[:, None]).squeeze(1)
        self.network.observe_subsets(self._everyone(subset))

        terms, _ = self.stages.loss(image, encoding, subset, identity, kl_weight,
                                    use_group_feature, label)
        loss = terms.total().mean()
        if self.config.loss.image_tail:
            self.network.observe_errors(self._everyone(terms.image))
        loss = loss + self._structure(encoding.mu, batch.get('subspace'), step)
        self._watch(loss, step)
        self.log('loss', loss, prog_bar=True, sync_dist=True)
        for name, value in terms.means().items():
            self.log(f'loss/{name}', value, sync_dist=True)
        idle = idle_coordinates(encoding.mu, encoding.logvar).sum().float()
        self.log('idle_coordinates', idle, sync_dist=True)
        self.log('active_modules', self.network.masks[subset].sum(1).float().mean(),
                 sync_dist=True)
        return loss

    def _watch(self, loss: Tensor, step: int) -> None:
        """
        Stop a training whose loss is no number any more.

        Looking at a number waits for a card to come to it, so there it is done now and then.
        """
        self._finite = torch.isfinite(loss.detach()) & self._finite
        if loss.device.type == 'cpu' or step % WATCHED_EVERY == 0:
            self._look(step)

    def _look(self, step: int) -> None:
        if not self._finite:
            raise UserError(f'the loss is not finite at step {step}; lower train.learning_rate')

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the last good checkpoint: none is written once the loss is no number."""
        self._look(self.global_step)

    def _structure(self, mu: Tensor, guess: Tensor | None, step: int) -> Tensor:
        """:return: what keeps each factor within one module, beyond Eq. (10)."""
        loss, train = self.config.loss, self.config.train
        radius = radius_variance(mu)
        self.log('loss/radius', radius, sync_dist=True)
        begun = step / RADIUS_STEPS - loss.radius_from / RADIUS_STEPS
        result = loss.radius_weight * min(1.0, max(0.0, begun)) * radius
        if guess is not None:
            error = subspace_error(mu, guess).mean()
            self.log('loss/subspace', error, sync_dist=True)
            result = result + loss.subspace_weight * (1 - step / train.subspace_steps) * error
        return result

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Score, error and use of identities on validation images, chosen one by one."""
        output = self.network(batch['image'], STRATEGIES[self.config.train.search])
        error = (output.recon.clamp(0, 1) - self.network.reduced(batch['image'])).square().mean()
        used = torch.bincount(output.identity, minlength=self.config.model.num_identities)
        self.log('validation/score', output.score.mean(), sync_dist=True, prog_bar=True)
        self.log('validation/pixel_error', error, sync_dist=True)
        for j, share in enumerate(used / used.sum()):
            self.log(f'validation/identity_{j}', share, sync_dist=True)

    def configure_optimizers(self) -> Any:
        """Adam; linear warm-up, then a cosine to :data:`FINAL_RATE`; the decoder faster later."""
        train = self.config.train
        decoder = list(self.network.decoder.parameters())
        own = {id(parameter) for parameter in decoder}
        others = [parameter for parameter in self.parameters() if id(parameter) not in own]
        optimizer = torch.optim.Adam([{'params': others}, {'params': decoder}],
                                     lr=train.learning_rate, betas=BETAS, fused=True)

        def rate(step: int) -> float:
            warm = min(1.0, (step + 1) / WARM_UP_STEPS)
            done = min(1.0, step / train.steps)
            return warm * (FINAL_RATE + (1 - FINAL_RATE) * 0.5 * (1 + math.cos(math.pi * done)))

        def decoder_rate(step: int) -> float:
            begun = min(1.0, max(0.0, (step - train.all_modules_steps) / DECODER_STEPS))
            return rate(step) * (1 + (train.decoder_rate - 1) * begun)

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, [rate, decoder_rate])
        return {'optimizer': optimizer,
                'lr_scheduler': {'scheduler': schedule, 'interval': 'step'}}

    def kl_weight(self, step: int) -> float:
        """
        Return the KL term's weight per nat at a step: a geometric fall, in two parts.

        As the price falls, one factor after the other becomes worth a coordinate, the largest
        first, and finds one that is still free rather than a share of one in use. The first part
        ends when identities come apart.
        """
        loss, train = self.config.loss, self.config.train
        split = train.single_identity_steps
        if step < split:
            start, end, done = loss.kl_weight, loss.kl_weight_split, step / split
        else:
            start, end = loss.kl_weight_split, loss.kl_weight_end
            done = min(1.0, (step - split) / max(1, train.steps - split))
        return start * (end / start) ** done

    def _rearrange(self, step: int) -> None:
        """Split or restart identities where the schedule says so, before the step is taken."""
        generator = torch.Generator().manual_seed(self._step_seed(step) + 1)
        optimizer = self.optimizers(use_pl_optimizer=False)
        assert isinstance(optimizer, torch.optim.Optimizer)
        self.assignment.rearrange(self.network.identities.matrices, optimizer, step, generator)

    def _revive(self, image: Tensor, step: int) -> None:
        """Give idle coordinates another chance where the schedule says so."""
        train, modules = self.config.train, self.network.compositional
        since = step - train.all_modules_steps
        if (not train.revive_every or since <= 0 or since % train.revive_every
                or self.assignment.remaining(step) == 0.0):
            return
        optimizer = self.optimizers(use_pl_optimizer=False)
        assert isinstance(optimizer, torch.optim.Optimizer)
        # Without autocast, which would go on with its copies of the weights from before.
        with torch.no_grad(), torch.autocast(self.device.type, enabled=False):
            mu, logvar, _ = modules.encode(image)
            idle = idle_coordinates(self._everyone(mu), self._everyone(logvar))
            # A restart in the same step draws the same numbers, for another purpose.
            generator = torch.Generator().manual_seed(self._step_seed(step) + 1)
            renew(modules, idle, self.config.model.basis_std, optimizer, generator)
            standardize(modules, idle, self._everyone(modules.encode(image)[0]))

    def _step_seed(self, step: int) -> int:
        return self.config.train.seed * 1_000_000_007 + 2 * step

    def _chance(self, step: int, num_images: int) -> tuple[Tensor, Tensor]:
        """:return: this process's part of the noise (B, m, L) and group-feature coins (B,)."""
        model, loss = self.config.model, self.config.loss
        world = self.trainer.world_size if self._trainer is not None else 1
        rank = self.global_rank if self._trainer is not None else 0
        generator = torch.Generator().manual_seed(self._step_seed(step))
        mine = slice(rank * num_images, (rank + 1) * num_images)
        shape = (world * num_images, model.num_modules, model.num_latents)
        noise = torch.randn(shape, generator=generator)[mine]
        coins = torch.rand(shape[0], generator=generator)[mine]
        return noise.to(self.device), (coins < loss.group_image_probability).to(self.device)

    def _everyone(self, value: Tensor) -> Tensor:
        """:return: the tensor of all processes, one after another."""
        gathered = self.all_gather(value)
        assert isinstance(gathered, Tensor)
        return gathered.flatten(0, 1) if gathered.dim() > value.dim() else value
