"""Batches side by side: the answers of one after another, on as many cores as torch would use."""
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from imn_world_model.learning.presets import preset
from imn_world_model.model.imn import IndependentModularNetwork
from imn_world_model.model.observe import observe
from imn_world_model.model.side_by_side import side_by_side

CPU = torch.device('cpu')


def of_new_threads() -> int:
    """:return: how many threads torch would use in a thread that begins now."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(torch.get_num_threads).result()


@pytest.fixture(params=(1, 2))
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    """:return: how many threads torch uses in the test."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def test_parts_are_done_on_as_many_cores_as_torch_uses(threads: int) -> None:
    together = threading.Barrier(threads, timeout=20)

    def part(number: int) -> tuple[int, int, bool, int]:
        together.wait()                               # fails unless others are at work, too
        return number, threading.get_ident(), torch.is_grad_enabled(), torch.get_num_threads()

    seen = list(side_by_side(part, range(4), CPU))
    assert [number for number, *_ in seen] == [0, 1, 2, 3]
    assert len({thread for _, thread, *_ in seen}) == threads
    assert not any(gradients for *_, gradients, _ in seen)
    assert {count for *_, count in seen} == {1}       # one core for each part
    assert torch.get_num_threads() == of_new_threads() == threads and torch.is_grad_enabled()


def test_a_fault_or_an_end_before_time_leaves_torch_as_it_was(threads: int) -> None:
    def part(number: int) -> int:
        if number == 1:
            raise ValueError('part 1')
        return number

    with pytest.raises(ValueError, match='part 1'):
        list(side_by_side(part, range(9), CPU))
    assert of_new_threads() == threads
    started = side_by_side(part, (0, 2, 3), CPU)
    assert next(started) == 0 and torch.is_grad_enabled()
    started.close()
    assert of_new_threads() == threads


def test_observations_do_not_depend_on_the_number_of_cores() -> None:
    torch.manual_seed(0)
    config = preset('debug')
    network = IndependentModularNetwork(config.model, config.loss).eval()
    images = np.random.default_rng(0).integers(0, 256, (200, 32, 32, 3), dtype=np.uint8)
    before, found = torch.get_num_threads(), []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            found.append(observe(network, images, keep_recon=True))
    finally:
        torch.set_num_threads(before)
    alone, together = found
    for name in ('identity', 'subset', 'score', 'latents', 'recon'):
        assert np.array_equal(getattr(alone, name), getattr(together, name)), name
