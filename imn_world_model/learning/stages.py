"""The stages of a training step, as they are or compiled by torch."""
import importlib.util
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from imn_world_model.base.errors import UserError
from imn_world_model.model.imn import Encoding, IndependentModularNetwork
from imn_world_model.model.losses import Terms
from imn_world_model.model.winner import Answer

Compile = Literal['none', 'default', 'reduce-overhead']


@dataclass(frozen=True)
class Stages:
    """
    What a step asks of a network.

    What lies between them, the assignment of identities and the schedule, is not compiled.

    :param encode: :meth:`IndependentModularNetwork.encode`.
    :param search: :meth:`IndependentModularNetwork.search`.
    :param loss: :meth:`IndependentModularNetwork.loss`.
    :param compiled: whether torch compiles them.
    """

    encode: Callable[..., Encoding]
    search: Callable[..., Answer]
    loss: Callable[..., tuple[Terms, Tensor]]
    compiled: bool = False

    def begin(self) -> None:
        """Say that a step begins: what captured kernels wrote in the last one is used no more."""
        if self.compiled:
            torch.compiler.cudagraph_mark_step_begin()

    def number(self, value: float, device: torch.device) -> float | Tensor:
        """
        A number that changes from step to step.

        As a number it would become part of what is compiled, and be compiled again each time.

        :return: itself, or a tensor () on the device.
        """
        return torch.full((), value, device=device) if self.compiled else value


def stages_of(network: IndependentModularNetwork, how: Compile) -> Stages:
    """
    The stages of a network.

    :param network: to be trained.
    :param how: ``none``, or the mode of ``torch.compile``: ``reduce-overhead`` captures kernels
        as CUDA graphs, and is ``default`` on a CPU.
    :raises UserError: when this machine cannot compile.
    """
    if how == 'none':
        return Stages(network.encode, network.search, network.loss)
    missing = missing_compiler(torch.cuda.is_available())
    if missing:
        raise UserError(f'train.compile is {how}, which needs {missing}; install it, or set '
                        'train.compile=none')
    return Stages(torch.compile(network.encode, mode=how, dynamic=False),
                  torch.compile(network.search, mode=how, dynamic=False),
                  torch.compile(network.loss, mode=how, dynamic=False), True)


def missing_compiler(card: bool) -> str:
    """
    What torch lacks to compile.

    :param card: whether for a GPU, too.
    :return: its name, or nothing.
    """
    compilers = [os.environ.get('CXX', 'g++'), 'clang++']
    if not any(map(shutil.which, compilers)):
        return 'a C++ compiler (g++)'
    if card and importlib.util.find_spec('triton') is None:
        return 'triton (pip install triton)'
    return ''
