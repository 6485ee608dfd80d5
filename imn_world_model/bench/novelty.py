"""How much of what a model of 3Dshapes has never seen it flags as novel."""
from pathlib import Path

import numpy as np
from tqdm import tqdm

from imn_world_model.rendering.unseen import KINDS, pictures
from imn_world_model.robot.inference import ImnModel

MODEL = Path(__file__).parents[2] / 'export' / 'shapes3d.onnx'
COUNT = 200


def run(path: Path, count: int = COUNT) -> dict[str, float]:
    """
    Show a model the known shapes, a cone, a torus and random textures.

    :param path: a model of 3Dshapes, exported.
    :param count: pictures of each kind.
    :return: share of each kind that is flagged; of the known shapes these are false alarms.
    """
    model = ImnModel(path)
    figures: dict[str, float] = {}
    for kind in tqdm(KINDS, desc='novelty', unit=' kinds'):
        flagged = [model.predict(part).novel for part in
                   np.array_split(pictures(kind, count, model.image_size), max(1, count // 16))]
        figures[f'{kind} flagged'] = float(np.concatenate(flagged).mean())
    return figures
