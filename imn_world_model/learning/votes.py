"""
The last stage of ``log`` presets: single images learn the names of their clips.

One view may not show what an object is (a cube seen face-on, a mug whose handle is behind it), but
its clip does. All frames of a clip vote for an identity; the recognizer learns to say of each
frame what its clip said. This is the paper's ID classifier (section III-C2) with the winners' own
names in place of labels, and self-training (Lee 2013, "Pseudo-Label") with a clip as the teacher.

Matrices and decoder stay as they are: what an identity's pictures look like is read off its matrix
by a linear layer.
"""
import copy
from typing import Any

import lightning
import numpy as np
import torch

from imn_world_model.base.config import Config
from imn_world_model.data.frames import Frames
from imn_world_model.learning.batches import Changes
from imn_world_model.learning.names import learn_names
from imn_world_model.model.imn import IndependentModularNetwork
from imn_world_model.model.observe import observe
from imn_world_model.model.recognition import Recognizer

TRAIN, VALIDATION = 0, 1
# Frames of a clip that vote, spread over it.
VOTES = 32
# Two identities may be one object, whose clips then take sides by what is not the object, and the
# recognizer does not see that: so much less agreement is no sign against it.
TOLERATED = 0.05


def learn(network: IndependentModularNetwork, frames: Frames, config: Config,
          hardware: dict[str, Any], progress: bool) -> Recognizer | None:
    """
    Learn a recognizer from the clips' names.

    :param network: trained without one, in evaluation mode, on the CPU.
    :param frames: all frames with their splits.
    :param config: the whole run.
    :param hardware: Lightning's options of hardware and precision.
    :param progress: whether to show a bar.
    :return: in evaluation mode, on the CPU; ``None`` where with it far fewer frames of validation
        clips have the identity of their clip.
    """
    rows, _, name = vote(network, frames, TRAIN)
    lightning.seed_everything(config.train.seed, verbose=False)
    recognizer, signature = learn_names(
        Recognizer(config.model),
        torch.randn(config.model.num_identities, config.model.recognizer_features),
        Changes(frames.images, config.train), rows, name, config, config.train.naming_steps,
        hardware, progress)
    recognizer.read(network.identities(), signature)
    if not (frames.split == VALIDATION).any():
        return recognizer
    rows, before, name = vote(network, frames, VALIDATION)
    after = observe(_with(network, recognizer), frames.images[rows]).identity
    alone, together = (float(np.mean(identity == name)) for identity in (before, after))
    print(f'validation images with the identity of their clip: {100 * alone:.1f} % by the picture '
          f'alone, {100 * together:.1f} % with the recognizer')
    if together < alone - TOLERATED:
        print('the recognizer is left out: it does not carry over to clips that it did not '
              'learn from; more clips would help')
        return None
    return recognizer


def _with(network: IndependentModularNetwork,
          recognizer: Recognizer) -> IndependentModularNetwork:
    """:return: the network with a recognizer, in evaluation mode."""
    named = copy.deepcopy(network)
    named.recognizer = recognizer
    return named.eval()


def vote(network: IndependentModularNetwork, frames: Frames, split: int
         ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """
    What the frames of each clip choose together.

    :param network: in evaluation mode.
    :param frames: all of them.
    :param split: number of the split.
    :return: (K,) rows of frames, their own identities and those of their clips.
    """
    rows = np.flatnonzero(frames.split == split)
    order = rows[np.argsort(frames.clip[rows], kind='stable')]
    clip = np.unique(frames.clip[order], return_inverse=True)[1]
    place = np.arange(len(order)) - np.searchsorted(clip, clip)
    every = -(-np.bincount(clip)[clip] // VOTES)
    chosen = place % every == 0
    rows, clip = order[chosen], clip[chosen]
    identity = observe(network, frames.images[rows]).identity
    count = np.zeros((clip.max() + 1, network.config.num_identities))
    np.add.at(count, (clip, identity), 1)
    return rows, identity, count.argmax(1)[clip]
