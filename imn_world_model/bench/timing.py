"""Side-by-side timing: contestants take turns, so that a machine's drift hits all alike."""
import time
from collections.abc import Callable

import numpy as np


def compare(contestants: dict[str, Callable[[], object]], seconds: float = 4.0,
            rounds: int = 7) -> dict[str, float]:
    """
    Median time of each contestant.

    :param contestants: name -> what is timed.
    :param seconds: for all of it, roughly; slow contestants run once a round.
    :param rounds: turns of each.
    :return: name -> seconds per call.
    """
    repeats = {}
    for name, call in contestants.items():
        call()                                        # warm-up
        start = time.perf_counter()
        call()
        once = time.perf_counter() - start
        repeats[name] = max(1, int(seconds / rounds / len(contestants) / once))
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, call in contestants.items():
            start = time.perf_counter()
            for _ in range(repeats[name]):
                call()
            times[name].append((time.perf_counter() - start) / repeats[name])
    return {name: float(np.median(values)) for name, values in times.items()}
