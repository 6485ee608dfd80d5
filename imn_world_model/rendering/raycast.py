"""
Rays against the four solids and a square room, vectorised in numpy.

Axes: x to the right, y up, z towards the viewer; the floor is y = 0. Points, directions and
normals are held component first, (3, N), so that each component is one contiguous array; results
have the precision (float32 or float64) of the directions.
"""
from dataclasses import dataclass
from math import cos, hypot, sin, sqrt

import numpy as np

SHAPES = ('cube', 'cylinder', 'sphere', 'capsule')
# In no training data: what a model should find novel.
UNSEEN = ('cone', 'torus')
FLOOR, WALL, OBJECT, SKY = range(4)

# A surface point must not shade itself through rounding.
_SELF = 1e-4


def dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """:return: (N,), the products of vectors (3, N) or (3, 1); faster than a sum over an axis."""
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


@dataclass(frozen=True)
class Solid:
    """
    One of the shapes, standing on the floor.

    :param shape: a name from :data:`SHAPES` or :data:`UNSEEN`.
    :param width: half side of the cube, (outer) radius of the others.
    :param height: from the floor to the top.
    :param x: position on the floor.
    :param z: position on the floor.
    :param yaw: turn about the vertical, radians.
    """

    shape: str
    width: float
    height: float
    x: float = 0.0
    z: float = 0.0
    yaw: float = 0.0

    def hit(self, origin: np.ndarray, direction: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """
        Where rays enter the solid.

        :param origin: (3, 1) or (3, N).
        :param direction: (3, N), any length.
        :return: distance (N,) in lengths of the direction, inf where missed, and the outward
            normal (3, N), zero where missed.
        """
        rays = self._near(origin, direction)
        distance = np.full(direction.shape[1], np.inf, direction.dtype)
        normal = np.zeros_like(direction)
        if len(rays) == 0:
            return distance, normal
        its_origin, its_direction = self._turned(
            origin[:, rays] if origin.shape[1] > 1 else origin, direction[:, rays])
        cast = _CASTS[self.shape]
        found, facing = cast(its_origin, its_direction, self.width, self.height)
        hits = np.flatnonzero(np.isfinite(found))
        rays, facing = rays[hits], facing[:, hits]
        distance[rays] = found[hits]
        cosine, sine = cos(self.yaw), sin(self.yaw)
        normal[0, rays] = cosine * facing[0] + sine * facing[2]
        normal[1, rays] = facing[1]
        normal[2, rays] = cosine * facing[2] - sine * facing[0]
        return distance, normal

    def blocks(self, point: np.ndarray, direction: np.ndarray) -> np.ndarray:
        """
        Whether something at ``point`` (3, N) is in the solid's shadow.

        :param direction: (3, N) towards the light.
        :return: (N,) boolean.
        """
        distance, _ = self.hit(point + _SELF * direction, direction)
        return np.isfinite(distance)

    def _near(self, origin: np.ndarray, direction: np.ndarray) -> np.ndarray:
        """:return: numbers of the rays that meet a ball around the solid."""
        offset = np.stack((origin[0] - self.x, origin[1] - self.height / 2, origin[2] - self.z))
        along = dot(offset, direction)
        if self.shape in ('sphere', 'capsule'):
            reach = max(self.width, self.height / 2)
        else:
            reach = hypot(self.width * (sqrt(2) if self.shape == 'cube' else 1), self.height / 2)
        # Slightly more, for rounding; the solid itself decides.
        beyond = dot(offset, offset) - (1.01 * reach) ** 2
        return np.flatnonzero((along < 0) & (along * along >= dot(direction, direction) * beyond))

    def _turned(self, origin: np.ndarray, direction: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """:return: the rays in the solid's own frame, broadcast to the same shape."""
        cosine, sine = cos(self.yaw), sin(self.yaw)

        def turn(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
            return np.stack((cosine * x - sine * z, y, sine * x + cosine * z))
        moved = turn(origin[0] - self.x, origin[1], origin[2] - self.z)
        return np.broadcast_to(moved, direction.shape), turn(*direction)


def _nearest(candidates: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """:return: the smallest positive distance of several surfaces and its normal."""
    distance, normal = candidates[0]
    distance = np.where(distance > 0, distance, np.inf)
    normal = normal.copy()
    for other, its_normal in candidates[1:]:
        closer = (other > 0) & (other < distance)
        distance = np.where(closer, other, distance)
        normal[:, closer] = its_normal[:, closer]
    return distance, normal


def _cube(origin: np.ndarray, direction: np.ndarray, width: float, height: float
          ) -> tuple[np.ndarray, np.ndarray]:
    """:return: entry into an upright box, by slabs."""
    half = np.array([[width], [height / 2], [width]], direction.dtype)
    centred = np.stack((origin[0], origin[1] - height / 2, origin[2]))
    sign = np.sign(direction)
    with np.errstate(divide='ignore', invalid='ignore'):
        enter = (-sign * half - centred) / direction
        leave = (sign * half - centred) / direction
    # A ray along a slab never crosses it: only whether it starts inside counts.
    along = direction == 0
    inside = np.abs(centred) < half
    enter = np.where(along, np.where(inside, -np.inf, np.inf), enter)
    leave = np.where(along, np.where(inside, np.inf, -np.inf), leave)
    axis = enter.argmax(0)
    first, last = enter.max(0), leave.min(0)
    distance = np.where((first > 0) & (first < last), first, np.inf)
    normal = np.where(np.arange(3)[:, None] == axis, -sign, 0.0)
    return distance, normal


def _tube(origin: np.ndarray, direction: np.ndarray, radius: float, low: float, high: float
          ) -> tuple[np.ndarray, np.ndarray]:
    """:return: entry into the mantle of an upright cylinder between two heights."""
    a = direction[0] ** 2 + direction[2] ** 2
    b = origin[0] * direction[0] + origin[2] * direction[2]
    c = origin[0] ** 2 + origin[2] ** 2 - radius ** 2
    with np.errstate(divide='ignore', invalid='ignore'):
        distance = (-b - np.sqrt(b * b - a * c)) / a
        point = origin + distance * direction
        meets = (point[1] >= low) & (point[1] <= high)
    normal = np.stack((point[0] / radius, np.zeros_like(a), point[2] / radius))
    return np.where(meets, distance, np.inf), normal


def _ball(origin: np.ndarray, direction: np.ndarray, radius: float, centre: float
          ) -> tuple[np.ndarray, np.ndarray]:
    """:return: entry into a sphere on the axis at height ``centre``."""
    offset = np.stack((origin[0], origin[1] - centre, origin[2]))
    a = dot(direction, direction)
    b = dot(offset, direction)
    c = dot(offset, offset) - radius ** 2
    with np.errstate(invalid='ignore'):
        distance = (-b - np.sqrt(b * b - a * c)) / a
    distance = np.where(np.isnan(distance), np.inf, distance)
    with np.errstate(invalid='ignore'):
        normal = (offset + distance * direction) / radius
    return distance, normal


def _disc(origin: np.ndarray, direction: np.ndarray, radius: float, height: float
          ) -> tuple[np.ndarray, np.ndarray]:
    """:return: hits of the cylinder's flat top from above, or of its bottom from below."""
    with np.errstate(divide='ignore', invalid='ignore'):
        distance = (height - origin[1]) / direction[1]
        point = origin + distance * direction
        meets = point[0] ** 2 + point[2] ** 2 <= radius ** 2
    normal = np.zeros_like(direction)
    normal[1] = -np.sign(direction[1])
    return np.where(meets, distance, np.inf), normal


def _cylinder(origin: np.ndarray, direction: np.ndarray, width: float, height: float
              ) -> tuple[np.ndarray, np.ndarray]:
    return _nearest([_tube(origin, direction, width, 0.0, height),
                     _disc(origin, direction, width, height)])


def _sphere(origin: np.ndarray, direction: np.ndarray, width: float, height: float
            ) -> tuple[np.ndarray, np.ndarray]:
    return _nearest([_ball(origin, direction, width, height / 2)])


def _capsule(origin: np.ndarray, direction: np.ndarray, width: float, height: float
             ) -> tuple[np.ndarray, np.ndarray]:
    return _nearest([_tube(origin, direction, width, width, height - width),
                     _ball(origin, direction, width, width),
                     _ball(origin, direction, width, height - width)])


def _cone(origin: np.ndarray, direction: np.ndarray, width: float, height: float
          ) -> tuple[np.ndarray, np.ndarray]:
    """:return: entry into an upright cone, seen from outside and above its floor."""
    slope = width / height
    below = height - origin[1]                               # depth under the tip
    a = direction[0] ** 2 + direction[2] ** 2 - (slope * direction[1]) ** 2
    b = (origin[0] * direction[0] + origin[2] * direction[2]
         + slope ** 2 * below * direction[1])
    c = origin[0] ** 2 + origin[2] ** 2 - (slope * below) ** 2
    with np.errstate(divide='ignore', invalid='ignore'):
        root = np.sqrt(b * b - a * c)
        candidates = []
        for distance in ((-b - root) / a, (-b + root) / a):
            point = origin + distance * direction
            radius = np.hypot(point[0], point[2])
            normal = np.stack((point[0], slope * radius, point[2]))
            normal = normal / (np.hypot(1.0, slope) * radius)
            # Inside the height: the same equation holds for the mirrored cone above the tip.
            meets = (point[1] >= 0) & (point[1] <= height) & (dot(normal, direction) < 0)
            candidates.append((np.where(meets, distance, np.inf), normal))
    return _nearest(candidates)


def _torus(origin: np.ndarray, direction: np.ndarray, width: float, height: float
           ) -> tuple[np.ndarray, np.ndarray]:
    """:return: entry into a ring lying on the floor, by sphere tracing (Hart 1996)."""
    tube = height / 2
    ring = width - tube
    length = np.sqrt(dot(direction, direction))
    distance = np.zeros(direction.shape[1], direction.dtype)
    for _ in range(_TORUS_STEPS):
        point = origin + distance * direction
        round_ring = np.hypot(point[0], point[2]) - ring
        gap = np.hypot(round_ring, point[1] - tube) - tube
        distance = distance + gap / length
    found = (gap < _TORUS_GAP * tube) & (distance > 0)
    share = round_ring / np.hypot(point[0], point[2])
    normal = np.stack((point[0] * share, point[1] - tube, point[2] * share))
    normal = normal / np.sqrt(dot(normal, normal))
    return np.where(found, distance, np.inf), normal


# Enough for grazing rays; a surface is met within a thousandth of the tube.
_TORUS_STEPS, _TORUS_GAP = 80, 1e-3
_CASTS = dict(zip((*SHAPES, *UNSEEN), (_cube, _cylinder, _sphere, _capsule, _cone, _torus),
                  strict=True))


@dataclass(frozen=True)
class Room:
    """
    A square floor with four walls around it and the sky above them.

    :param half_width: from the centre to each wall.
    :param wall_height: where the sky begins.
    """

    half_width: float
    wall_height: float

    def hit(self, origin: np.ndarray, direction: np.ndarray
            ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """
        What a ray from inside the room meets.

        :param origin: (3, 1), above the floor.
        :param direction: (3, N).
        :return: material (N,) (:data:`FLOOR`, :data:`WALL` or :data:`SKY`), distance (N,) and the
            normal facing the room (3, N).
        """
        with np.errstate(divide='ignore', invalid='ignore'):
            down = np.where(direction[1] < 0, -origin[1] / direction[1], np.inf)
            sign = np.sign(direction[[0, 2]])
            across = (sign * self.half_width - origin[[0, 2]]) / direction[[0, 2]]
        across = np.where(sign == 0, np.inf, across)
        on_x = across[0] < across[1]
        wall = np.where(on_x, across[0], across[1])
        on_floor = down < wall
        distance = np.where(on_floor, down, wall)
        height = origin[1] + distance * direction[1]
        material = np.where(on_floor, FLOOR, np.where(height < self.wall_height, WALL, SKY))
        normal = np.stack((np.where(on_floor | ~on_x, 0.0, -sign[0]),
                           np.where(on_floor, 1.0, 0.0),
                           np.where(on_floor | on_x, 0.0, -sign[1])))
        return material, distance, normal


@dataclass(frozen=True)
class Spot:
    """
    A spot light without distance falloff: power * max(N.L, 0) * cos(angle off its axis)**exponent.

    :param position: (x, y, z).
    :param target: (x, z) on the floor, where the axis meets it.
    :param power: shade it adds where it shines straight on a surface.
    :param exponent: how narrow the pool is.
    """

    position: tuple[float, float, float]
    target: tuple[float, float]
    power: float
    exponent: float

    def towards(self, point: np.ndarray) -> np.ndarray:
        """:return: unit directions (3, N) from points (3, N) to the lamp."""
        offset = np.array(self.position, point.dtype)[:, None] - point
        return offset / np.sqrt(dot(offset, offset))

    def shade(self, direction: np.ndarray, normal: np.ndarray) -> np.ndarray:
        """
        Light that a matt surface returns.

        :param direction: (3, N) from :meth:`towards`.
        :param normal: (3, N).
        :return: (N,), 0 on the far side.
        """
        axis = np.array(self.position) - np.array([self.target[0], 0.0, self.target[1]])
        axis = (axis / np.linalg.norm(axis)).astype(direction.dtype)
        facing = np.clip(dot(direction, normal), 0.0, None)
        spread = np.clip(dot(direction, axis), 0.0, None) ** self.exponent
        return self.power * facing * spread
