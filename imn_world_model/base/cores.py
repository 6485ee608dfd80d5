"""How many cores this process may use; without torch and ROS."""
import math
import os
from pathlib import Path

CPU_MAX = Path('/sys/fs/cgroup/cpu.max')


def usable_cores() -> int:
    """
    Cores that this process may run on, at least 1.

    A container sees all cores of its machine, however few it was given: libraries that start a
    thread for each then spend their time waiting for each other.

    :return: the smaller of the cores it is bound to and, rounded up, its share by the control
        group.
    """
    bound = len(os.sched_getaffinity(0))
    try:
        quota, period = CPU_MAX.read_text().split()
        return max(1, min(bound, math.ceil(int(quota) / int(period))))
    except (OSError, ValueError):                     # no such group, or 'max'
        return bound
