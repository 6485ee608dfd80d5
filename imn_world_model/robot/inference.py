"""An exported model on ONNX Runtime: images in, named answers out. Needs no torch, no ROS."""
import json
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from imn_world_model.base.errors import UserError
from imn_world_model.robot.session import ModelError, Session
from imn_world_model.robot.weights import nan_weights
from imn_world_model.vision.preprocess import Crop, prepare

FORMAT_VERSION = '1'
# In the order of the file's outputs; shapes and types in Winner.
OUTPUTS = ('identity', 'score', 'identity_scores', 'active', 'transform', 'module_transforms',
           'latent_mean', 'latent_variance', 'reconstruction')
# A further output of models with a recognizer.
STRANGENESS = 'strangeness'
LFS_MAGIC = b'version https://git-lfs'


@dataclass(frozen=True)
class Winner:
    """
    The winners of B images.

    :param identity: (B,) int64, the winning identity.
    :param score: (B,) float32, Eq. (9) of the winner.
    :param identity_scores: (B, n) float32, the best score of each identity.
    :param active: (B, m) bool, the winning subset of modules.
    :param transform: (B, u, u) float32, product of the active modules' matrices.
    :param module_transforms: (B, m, u, u) float32.
    :param latent_mean: (B, m, L) float32, Lie-algebra coordinates.
    :param latent_variance: (B, m, L) float32, their variance.
    :param reconstruction: (B, H, W, 3) uint8 RGB.
    :param strangeness: (B,) float32, distance of what the image looks like from what any identity
        looks like (:mod:`familiarity`, :mod:`looks`); 0 for models without a recognizer.
    :param label: B names of the identities.
    :param confidence: (B,) float32 in [0, 1], of the identity against the other identities.
    :param novel: (B,) bool, whether the score is below the winner's novelty threshold, or the
        strangeness above the model's.
    """

    identity: np.ndarray
    score: np.ndarray
    identity_scores: np.ndarray
    active: np.ndarray
    transform: np.ndarray
    module_transforms: np.ndarray
    latent_mean: np.ndarray
    latent_variance: np.ndarray
    reconstruction: np.ndarray
    strangeness: np.ndarray
    label: list[str]
    confidence: np.ndarray
    novel: np.ndarray


class ImnModel:
    """
    An exported model. Safe to call from several threads; calls run one after another.

    :param path: the ``.onnx`` file.
    :param providers: ONNX Runtime providers to try, best first: ``tensorrt``, ``cuda``, ``cpu`` or
        full names. By default TensorRT, CUDA, CPU, as far as they are installed. The CPU is always
        tried last, with a warning when a provider that was asked for is not used.
    :param threads: of one inference; 0 lets ONNX Runtime use every core.
    :raises ModelError: when the file is missing, broken, no model of this format, or has NaN for
        weights.
    """

    def __init__(self, path: str | Path, providers: Sequence[str] | None = None,
                 threads: int = 0) -> None:
        self.path = Path(path)
        self._lock = threading.Lock()
        _check_file(self.path)
        self._session = Session(self.path, providers, threads)
        self.provider: str = self._session.provider
        self._read_metadata()
        damaged = nan_weights(self.path)
        if damaged:
            raise ModelError(f'{self.path} holds weights that are no numbers (NaN): '
                             f'{", ".join(damaged[:3])}; the file is damaged or its training '
                             'diverged; export it again, or another run')

    def _read_metadata(self) -> None:
        metadata = self._session.metadata
        version = metadata.get('imn_format_version')
        if version is None or self._session.outputs not in (OUTPUTS, (*OUTPUTS, STRANGENESS)):
            raise ModelError(f'{self.path} is an ONNX file, but not of this project; give one '
                             'that `python -m imn_world_model.export` wrote')
        if version != FORMAT_VERSION:
            raise ModelError(f'{self.path} has format version {version}, this program reads '
                             f'{FORMAT_VERSION}; export the run again with this version')
        try:
            config: dict[str, Any] = json.loads(metadata['config'])
            self.labels: tuple[str, ...] = tuple(json.loads(metadata['labels']))
            self.name: str = metadata['name']
            self.training_data_hash: str = metadata['training_data_hash']
            # Empty in files of before there were dynamics.
            self.weights_hash: str = metadata.get('weights_hash', '')
            # What calibrate learnt, see poses.PoseMap; empty for nothing.
            self.poses: str = metadata.get('poses', '')
            self.novelty_threshold = float(metadata['novelty_threshold'])
            # Those of before there was strangeness, or identities that came one by one.
            self.strangeness_threshold = float(metadata.get('strangeness_threshold', 'inf'))
            self.usual_strangeness = float(metadata.get('usual_strangeness', 'inf'))
            thresholds = json.loads(metadata.get('novelty_thresholds', '[]'))
            self._temperature = float(metadata['temperature'])
            sizes = config['model']
            # Of the input; a recognizer may see more than the decoder draws.
            self.image_size: int = sizes.get('input_size') or sizes['image_size']
            self.num_modules: int = sizes['num_modules']
            self.num_identities: int = sizes['num_identities']
            self.latent_dim: int = sizes['num_latents']
            self.matrix_dim: int = sizes['matrix_size']
            roi = config['crop']['roi']
            self.crop = Crop(config['crop']['mode'], tuple(roi) if roi else None,
                             config['crop'].get('background', 'keep'),
                             config['crop'].get('turn', False))
            regions = config.get('regions', {})
            # How training cut objects out of larger pictures, see data.regions; empty for not.
            self.regions: dict[str, Any] = regions if any(regions.values()) else {}
            for name, number, output in (
                    ('num_identities', self.num_identities, 'identity_scores'),
                    ('num_modules', self.num_modules, 'active'),
                    ('matrix_size', self.matrix_dim, 'transform'),
                    ('num_latents', self.latent_dim, 'latent_mean'),
                    ('image_size', sizes['image_size'], 'reconstruction')):
                made = self._session.shape(output)[2 if name == 'num_latents' else 1]
                if number != made:
                    raise ValueError(f'{name} is {number!r} but the graph has {made!r}')
            # NaN where an identity has none of its own.
            self._own_thresholds = np.array(
                thresholds or [np.nan] * self.num_identities, np.float64)
            if len(self._own_thresholds) != self.num_identities:
                raise ValueError(f'{len(self._own_thresholds)} novelty thresholds for '
                                 f'{self.num_identities} identities')
            if len(self.labels) != self.num_identities:
                raise ValueError(f'{len(self.labels)} labels for {self.num_identities} identities')
            if not self._temperature > 0:
                raise ValueError(f'temperature is {self._temperature}')
        except (KeyError, ValueError, TypeError, IndexError, AttributeError) as error:
            raise ModelError(f'{self.path} has broken metadata ({error}); export the run '
                             'again') from error

    def prepare(self, rgb: np.ndarray) -> np.ndarray:
        """
        Cut and resize a camera image exactly as training did.

        :param rgb: (H, W, 3) uint8 RGB.
        :return: (S, S, 3) uint8.
        :raises UserError: for another shape or type, or a region of interest outside the image.
        """
        if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8 or 0 in rgb.shape:
            raise UserError(f'an image must be (H, W, 3) uint8, got {rgb.shape} {rgb.dtype}')
        return prepare(rgb, self.image_size, self.crop)

    def halvings(self, height: int, width: int) -> int:
        """
        How often a reader may halve an image for :meth:`prepare`, see :meth:`Crop.halvings`.

        :param height: of the camera image in pixels.
        :param width: likewise.
        """
        return self.crop.halvings(height, width, self.image_size)

    def predict(self, images: np.ndarray) -> Winner:
        """
        Find the winners.

        :param images: (B, S, S, 3) uint8 from :meth:`prepare`, B at least 1.
        :raises UserError: for another shape or type.
        """
        size = self.image_size
        if images.dtype != np.uint8 or images.shape[1:] != (size, size, 3) or len(images) == 0:
            raise UserError(f'{self.name} takes (B, {size}, {size}, 3) uint8 with B at least 1, '
                            f'got {images.shape} {images.dtype}')
        with self._lock:
            answer = self._session.run(np.ascontiguousarray(images))
        identity = answer['identity']
        confidence = self.confidences(answer['identity_scores'])
        strangeness = answer.setdefault(STRANGENESS, np.zeros(len(identity), np.float32))
        return Winner(
            **answer, label=[self.labels[j] for j in identity],
            confidence=confidence[np.arange(len(identity)), identity].astype(np.float32),
            novel=((answer['score'] < self.novelty_thresholds[identity])
                   | (strangeness > self.strangeness_threshold)))

    @property
    def novelty_thresholds(self) -> np.ndarray:
        """(n,), the score below which an image is novel, by the winning identity."""
        own = self._own_thresholds
        return np.where(np.isnan(own), self.novelty_threshold, own)

    def confidences(self, identity_scores: np.ndarray) -> np.ndarray:
        """
        Weigh the identities against each other.

        :param identity_scores: (B, n), the best score of each identity.
        :return: (B, n) in [0, 1]; a row sums to 1.
        """
        odds = identity_scores / self._temperature
        odds = np.exp(odds - odds.max(axis=1, keepdims=True))
        weights: np.ndarray = odds / odds.sum(axis=1, keepdims=True)
        return weights

    def warm_up(self, batch_sizes: Sequence[int] = (1,)) -> None:
        """
        Run once per batch size, so that the first real image does not pay for the set-up.

        :param batch_sizes: as many images at a time as will come later.
        """
        for count in batch_sizes:
            self.predict(np.zeros((count, self.image_size, self.image_size, 3), np.uint8))


def _check_file(path: Path) -> None:
    if not path.is_file():
        raise ModelError(f'model {path} does not exist; give an .onnx file that export wrote')
    try:
        with path.open('rb') as stream:
            head = stream.read(len(LFS_MAGIC))
    except OSError as error:
        raise ModelError(f'{path} cannot be read ({error.strerror}); check its permissions'
                         ) from error
    if head == LFS_MAGIC:
        raise ModelError(f'{path} is a Git LFS pointer, not a model; run `git lfs pull`')
    if not head:
        raise ModelError(f'{path} is empty; export it again')
