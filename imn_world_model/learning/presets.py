"""Named configurations; why each is as it is stands in ``docs/training.md``."""
from dataclasses import replace

from imn_world_model.base.config import AUTO, Config, LossConfig, ModelConfig, TrainConfig
from imn_world_model.base.errors import UserError

# What a picture of a quarter of the pixels needs.
SMALL_STEPS = 5500


def _small(config: Config) -> Config:
    """:return: the same at 32x32: one halving less, fewer steps."""
    model = replace(config.model, image_size=32, encoder_channels=(64, 64),
                    decoder_channels=(128, 64))
    train = replace(config.train, steps=min(config.train.steps, SMALL_STEPS))
    return replace(config, model=model, train=train)


_CLIPS = Config(
    model=ModelConfig(basis_std=0.05, identity_std=0.1),
    loss=LossConfig(kl_weight=30.0, kl_weight_split=12.0, kl_weight_end=0.5,
                    radius_weight=1500.0),
    train=TrainConfig(steps=6000, batch_size=64, learning_rate=2e-3, decoder_rate=4.0,
                      share='clip', views=4,
                      subspace_steps=400, single_identity_steps=700, all_modules_steps=2000,
                      balance=2.0, restart_every=250))
_LOG = replace(_CLIPS, model=replace(_CLIPS.model, num_latents=3, recognizer='conv'),
               loss=replace(_CLIPS.loss, kl_weight=5.0, kl_weight_split=3.0, kl_weight_end=0.3,
                            radius_weight=0.0, recognition_weight=20.0),
               train=replace(_CLIPS.train, subspace_steps=0, single_identity_steps=800,
                             revive_every=400, recolor=True, zoom=0.25, shift=0.08, flip=True,
                             naming_steps=1500))
_SINGLE = replace(_CLIPS, loss=replace(_CLIPS.loss, radius_weight=0.0),
                  train=replace(_CLIPS.train, share='augment', recolor=True, zoom=0.15,
                                flip=True))
_ID_CLASSIFIER = replace(_CLIPS, loss=replace(_CLIPS.loss, classifier_weight=50.0))
_PAPER = Config(
    loss=LossConfig(choice_weight=0.0, independence='hessian', independence_weight=20.0),
    train=TrainConfig(batch_size=256, learning_rate=1e-4, search='exhaustive'))
_OBJECTS = replace(
    _LOG,
    model=replace(_LOG.model, num_identities=AUTO, recognizer='conv', background='remove',
                  turn='auto', recognizer_components=50, recognizer_outlines=50,
                  recognizer_colours=25),
    loss=replace(_LOG.loss, recognition_weight=20.0, image_tail=0.5),
    train=replace(_LOG.train, steps=1000, batch_size=32, clip_steps=1500, trial_steps=200,
                  naming_steps=0, photo=True, single_identity_steps=0,
                  subspace_steps=900, subspaces='clip',
                  all_modules_steps=400,
                  restart_every=0, balance=0.0, recolor=False, zoom=0.0, shift=0.0, flip=False))
_OBJECTS_PRETRAINED = replace(
    _OBJECTS, model=replace(_OBJECTS.model, recognizer='efficientnet_lite0', input_size=128,
                           turn='keep', recognizer_components=0, recognizer_outlines=0,
                           recognizer_colours=0),
    loss=replace(_OBJECTS.loss, recognition_weight=100.0),
    train=replace(_OBJECTS.train, trial_steps=0))
_DEBUG_MODEL = ModelConfig(
    image_size=32, num_modules=3, num_identities=3, num_latents=2, matrix_size=6,
    encoder_channels=(16, 32), decoder_channels=(32, 16), encoder_features=32,
    decoder_hidden=32)

_BASES = {'paper': _PAPER, 'clips': _CLIPS, 'log': _LOG, 'single': _SINGLE,
          'id_classifier': _ID_CLASSIFIER, 'objects': _OBJECTS,
          'objects_pretrained': _OBJECTS_PRETRAINED}
PRESETS: dict[str, Config] = {
    **_BASES,
    **{f'{name}32': _small(config) for name, config in _BASES.items()},
    'debug': Config(
        model=_DEBUG_MODEL,
        train=TrainConfig(steps=60, batch_size=32, learning_rate=5e-3, share='clip', views=4,
                          subspace_steps=10, single_identity_steps=20, revive_every=20,
                          balance=1.0, restart_every=20)),
}


def preset(name: str) -> Config:
    """
    A named configuration.

    :param name: a key of :data:`PRESETS`.
    :raises UserError: for an unknown name.
    """
    if name not in PRESETS:
        raise UserError(f"unknown preset '{name}'; choose one of {', '.join(PRESETS)}")
    return PRESETS[name]
