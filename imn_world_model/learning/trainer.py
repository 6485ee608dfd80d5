"""Which hardware and precision a training runs on, checked before anything else is done."""
import logging
from typing import Any

import lightning
from lightning.fabric.utilities.exceptions import MisconfigurationException

from imn_world_model.base.errors import UserError

# What Lightning raises for hardware that is not there and for options it does not know.
REFUSALS = (MisconfigurationException, ValueError, TypeError, RuntimeError, ImportError)


def lightning_options(accelerator: str, devices: int, nodes: int,
                      precision: str) -> dict[str, Any]:
    """
    Lightning's options of hardware and precision.

    :param accelerator: its name of the hardware.
    :param devices: processes on each machine.
    :param nodes: machines.
    :param precision: its name, such as ``32-true``.
    :raises UserError: when this machine cannot do that.
    """
    for name, value in (('--devices', devices), ('--nodes', nodes)):
        if value < 1:
            raise UserError(f'{name} is {value}; it must be at least 1')
    options: dict[str, Any] = {
        'accelerator': accelerator, 'devices': devices, 'num_nodes': nodes,
        'strategy': 'ddp' if devices * nodes > 1 else 'auto', 'precision': precision,
        'deterministic': 'warn' if accelerator == 'cpu' else None}
    logger = logging.getLogger('lightning.pytorch')
    level = logger.level
    logger.setLevel(logging.ERROR)                    # the real trainer says it all again
    try:
        lightning.Trainer(logger=False, enable_checkpointing=False, enable_progress_bar=False,
                          enable_model_summary=False, **options)
    except REFUSALS as error:
        cause = (str(error).strip().splitlines() or [type(error).__name__])[0].strip()
        given = (('--accelerator', accelerator, 'auto'), ('--devices', devices, 1),
                 ('--nodes', nodes, 1), ('train.precision', precision, '32-true'))
        asked = ', '.join(f'{name} {value}' for name, value, usual in given if value != usual)
        usual = ', '.join(f'{name} {usual}' for name, _, usual in given)
        raise UserError(f'{asked or "training"} does not work on this machine ({cause}); the '
                        f'defaults are {usual}') from error
    finally:
        logger.setLevel(level)
    return options
