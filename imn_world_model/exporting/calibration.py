"""What an exported model calls novel, and how sure it is."""
from dataclasses import dataclass

import numpy as np
import torch
from tqdm import tqdm

from imn_world_model.exporting.deployed import DeployedNetwork
from imn_world_model.model.familiarity import Familiarity
from imn_world_model.model.imn import IndependentModularNetwork
from imn_world_model.model.looks import kept_back
from imn_world_model.model.side_by_side import side_by_side

# Share of validation images that fall below the novelty threshold, by construction.
FALSE_ALARM_RATE = 0.01
MAX_CALIBRATION_IMAGES = 2000
# Images at a time.
BATCH = 32
# Share of validation images whose strangeness is usual.
USUAL_SHARE = 0.7
# Of the false alarms, the part that the score may cause: half where strangeness is learnt from the
# log as well, little where it is the better judge.
SCORE_PART, LITTLE_PART = 0.5, 0.1


@dataclass(frozen=True)
class Calibration:
    """
    What validation images tell about the scores.

    :param novelty_threshold: a score below it is novel.
    :param temperature: confidence is softmax(identity_scores / temperature) of the winner.
    :param strangeness_threshold: a strangeness above it is novel, too.
    :param usual_strangeness: that most images of known objects stay below.
    """

    novelty_threshold: float
    temperature: float
    strangeness_threshold: float = float('inf')
    usual_strangeness: float = float('inf')


@torch.no_grad()
def calibrate(network: DeployedNetwork, images: np.ndarray, progress: bool = False,
              false_alarms: float = FALSE_ALARM_RATE, kept: np.ndarray | None = None
              ) -> Calibration:
    """
    Threshold and temperature from images that training did not see.

    The temperature is the median lead of the winner over the runner-up, divided by the log-odds
    of 0.99: a typical lead reads as a confidence of 0.99, a tie of two as 0.5.

    :param network: as exported.
    :param images: (K, S, S, 3) uint8.
    :param progress: whether to show a bar.
    :param false_alarms: share of these images that are novel by the thresholds; score and
        strangeness share it.
    :param kept: (K',) strangeness of training images to what other clips tell; empty or ``None``
        for that of the images.
    """
    if len(images) == 0:
        return Calibration(float('-inf'), 1.0)
    scores, leads, strange = [], [], []
    judged = np.zeros(0) if kept is None else kept
    part_of_score = (1.0 if network.familiarity is None else
                     LITTLE_PART if len(judged) else SCORE_PART)
    device = next(network.parameters()).device
    parts = torch.from_numpy(np.ascontiguousarray(images)).split(BATCH)
    answers = side_by_side(lambda part: network(part.to(device)), parts, device)
    for _, score, identity_scores, *others in tqdm(
            answers, total=len(parts), desc='novelty and confidence', unit=' batches',
            disable=not progress, leave=False):
        scores.append(score.cpu())
        strange.append(others[-1].cpu())
        best = identity_scores.topk(min(2, identity_scores.shape[1]), dim=1).values
        leads.append((best[:, 0] - best[:, -1]).cpu())
    threshold = float(np.quantile(torch.cat(scores).numpy(), part_of_score * false_alarms))
    lead = float(torch.cat(leads).median())
    farthest = usual = float('inf')
    if network.familiarity is not None:
        farthest, usual = (float(value) for value in np.quantile(
            judged if len(judged) else torch.cat(strange).numpy(),
            (1 - (1 - part_of_score) * false_alarms, USUAL_SHARE)))
    return Calibration(threshold, max(lead / float(np.log(0.99 / 0.01)), 1e-3), farthest, usual)


def familiarity_for(network: IndependentModularNetwork, images: np.ndarray, clip: np.ndarray,
                    progress: bool = False) -> tuple[Familiarity | None, np.ndarray]:
    """
    What the images of each identity look like, by the recognizer's own word: no search.

    :param network: trained, in evaluation mode.
    :param images: (K, S, S, 3) uint8 of the training split.
    :param clip: (K,) clip of each.
    :param progress: whether to show a bar.
    :return: ``None`` for a network without a recognizer; and how strange images are to what other
        clips tell (K',), where training has not changed what images look like, else empty.
    """
    recognizer = network.recognizer
    if recognizer is None or not len(images):
        return None, np.zeros(0)
    device, found, looks = network.masks.device, [], []
    with torch.no_grad():
        signature = recognizer.signatures(network.identities()).cpu()
        parts = torch.from_numpy(np.ascontiguousarray(images)).split(BATCH)

        def seen(part: torch.Tensor) -> tuple[torch.Tensor, ...]:
            pixels = part.to(device).movedim(-1, 1).float() / 255.0
            if not recognizer.comes_with_features:
                return (recognizer.features(pixels).cpu(),)
            pooled = recognizer.pooled(pixels)
            return recognizer.features(pooled).cpu(), recognizer.look(pooled, pixels).cpu()

        for own, *look in tqdm(
                side_by_side(seen, parts, device), total=len(parts), unit=' batches',
                desc='what identities look like', disable=not progress, leave=False):
            found.append(own)
            looks += look
    features = torch.cat(found)
    identity = (features @ signature.T).argmax(1)
    if not looks:
        return Familiarity.fit(features, identity, signature), np.zeros(0)
    every = torch.cat(looks)
    return (Familiarity.fit(features, identity, signature, every),
            kept_back(every, identity, clip).numpy())
