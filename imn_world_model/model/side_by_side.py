"""Batches of images side by side, a core for each."""
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

Part = TypeVar('Part')
Result = TypeVar('Result')


def side_by_side(function: Callable[[Part], Result], parts: Iterable[Part],
                 device: torch.device) -> Generator[Result]:
    """
    Call a function on each part, without gradients; on a processor several at a time.

    A batch's many small products gain little from a second core each; two batches at a time keep
    two cores busy. As many threads are used as torch would.

    :param function: of one part; its calls must not depend on each other.
    :param parts: all are read before the first result is there.
    :param device: that it computes on; a card takes one part at a time.
    :return: its results, in the order of the parts.
    """
    function = torch.no_grad()(function)
    threads = torch.get_num_threads()
    if device.type != 'cpu' or threads == 1:
        yield from map(function, parts)
        return
    pool = ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))
    try:
        yield from pool.map(function, parts)
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)
