"""What torch computes on: the ``--accelerator`` of every command, and how many threads."""
import argparse

import torch

from imn_world_model.base.cores import usable_cores
from imn_world_model.base.errors import UserError

ACCELERATORS = ('auto', 'cpu', 'gpu')


def add_accelerator_option(parser: argparse.ArgumentParser) -> None:
    """Add ``--accelerator`` as every command has it."""
    parser.add_argument('--accelerator', default='auto',
                        help='cpu, gpu or auto (default: a GPU where there is one)')


def device_for(accelerator: str) -> torch.device:
    """
    Where to compute; also keeps torch from starting more threads than there are cores.

    :param accelerator: ``cpu``, ``gpu`` (or ``cuda``), or ``auto``.
    :raises UserError: for another name, or when there is no GPU.
    """
    limit_threads()
    if accelerator not in (*ACCELERATORS, 'cuda'):
        raise UserError(f"--accelerator '{accelerator}' is not known; choose from "
                        f'{", ".join(ACCELERATORS)}')
    found = torch.cuda.is_available()
    if accelerator in ('gpu', 'cuda') and not found:
        raise UserError(f'--accelerator {accelerator}: torch finds no GPU (is its driver '
                        'installed, and a torch built for it?); use --accelerator cpu')
    return torch.device('cuda' if found and accelerator != 'cpu' else 'cpu')


def limit_threads() -> None:
    """Let torch start no more threads than this process has cores."""
    cores = usable_cores()
    if torch.get_num_threads() > cores:
        torch.set_num_threads(cores)
