"""
What the simulated robot camera sees and how it drives: one scene per clip, one view per frame.

Lengths are metres, angles radians, times seconds. The object is the same throughout a clip;
between clips its size, place and hue, the lamp and the path change, drawn from (seed, clip
number). The room is drawn from a number of its own: a robot's logs come from one place.
"""
from dataclasses import dataclass, replace
from math import atan2, cos, dist, pi, sin, sqrt

import numpy as np

from imn_world_model.rendering.raycast import SHAPES, Room, Solid, Spot

# Height over half width, as in the 3Dshapes objects.
_PROPORTION = {'cube': 2.0, 'cylinder': 1.97, 'sphere': 2.0, 'capsule': 3.95}
# Half width at size 1. The tall capsule just fits the picture at its largest and nearest.
_HALF_WIDTH = {'cube': 0.230, 'cylinder': 0.245, 'sphere': 0.265, 'capsule': 0.195}
# An object of the colour of what is behind it could not be seen.
_LEAST_HUE_DIFFERENCE = 0.08
# Several objects: sizes, metres from the middle of the room and between two at least, and how
# much farther off the camera drives.
_SMALLER, _SPREAD, _APART, _FARTHER = (0.45, 0.8), 0.55, 0.06, 0.2


@dataclass(frozen=True)
class Wave:
    """
    A smooth change about a mean: mean + swing * sin(rate * time + phase).

    :param mean: the middle.
    :param swing: the largest difference from it.
    :param rate: radians per second.
    :param phase: radians.
    """

    mean: float
    swing: float
    rate: float
    phase: float

    def at(self, time: float) -> float:
        """:return: the value ``time`` seconds into the clip."""
        return self.mean + self.swing * sin(self.rate * time + self.phase)


@dataclass(frozen=True)
class View:
    """
    The camera and the light at one instant.

    :param position: of the camera (3,), y up.
    :param right: unit vector (3,) along the image's columns.
    :param up: unit vector (3,), against its rows.
    :param forward: unit vector (3,) along the optical axis.
    :param lamp: the light that casts shadows.
    :param brightness: factor on all light.
    """

    position: np.ndarray
    right: np.ndarray
    up: np.ndarray
    forward: np.ndarray
    lamp: Spot
    brightness: float

    def in_camera(self, vector: np.ndarray) -> np.ndarray:
        """:return: a vector (3,) of the room in the optical frame: right, down, forward."""
        return np.array([self.right @ vector, -(self.up @ vector), self.forward @ vector])


@dataclass(frozen=True)
class Other:
    """
    One more object of a clip.

    :param solid: the object.
    :param size: 1 is a cube of 0.46 m.
    :param hue: in [0, 1).
    :param colour: RGB (3,) in [0, 1].
    """

    solid: Solid
    size: float
    hue: float
    colour: np.ndarray


@dataclass(frozen=True)
class Scene:
    """
    One clip: a room, an object or several, a lamp and a path.

    :param solid: the object.
    :param room: four low walls around the floor.
    :param hues: of floor, wall and object, in [0, 1).
    :param colours: RGB of floor, wall, object and of what is above the walls, (4, 3) in [0, 1].
    :param tint: RGB factor of the light, (3,).
    :param size: the object's size, 1 is a cube of 0.46 m.
    :param azimuth: where the camera starts, seen from the object.
    :param speed: radians per second around the object.
    :param distance: from the camera to the object, along the floor.
    :param height: of the camera.
    :param bearing: of the object off the optical axis, positive to the left.
    :param above: how far the optical axis passes above the object's middle.
    :param brightness: of the light.
    :param lamp_azimuth: direction of the lamp from the room's middle.
    :param lamp_elevation: its angle above the floor.
    :param others: objects beside ``solid``; the path goes around the middle of all.
    """

    solid: Solid
    room: Room
    hues: tuple[float, float, float]
    colours: np.ndarray
    tint: np.ndarray
    size: float
    azimuth: float
    speed: float
    distance: Wave
    height: Wave
    bearing: Wave
    above: Wave
    brightness: Wave
    lamp_azimuth: Wave
    lamp_elevation: float
    others: tuple[Other, ...] = ()

    @property
    def solids(self) -> tuple[Solid, ...]:
        """All objects."""
        return self.solid, *(other.solid for other in self.others)

    @property
    def palette(self) -> np.ndarray:
        """RGB (4 + others, 3) of floor, wall, object, sky and of the other objects."""
        return np.vstack([self.colours, *(other.colour for other in self.others)])

    @property
    def middle(self) -> tuple[float, float, float]:
        """Mean of the objects' middles: x, y, z."""
        count = len(self.solids)
        return (sum(solid.x for solid in self.solids) / count,
                sum(solid.height / 2 for solid in self.solids) / count,
                sum(solid.z for solid in self.solids) / count)

    def view(self, time: float) -> View:
        """:return: camera and light ``time`` seconds into the clip."""
        around = self.azimuth + self.speed * time
        out = np.array([sin(around), 0.0, cos(around)])
        x, y, z = self.middle
        position = np.array([x, self.height.at(time), z]) + self.distance.at(time) * out
        turn = around - self.bearing.at(time)
        pitch = self.above.at(time) + atan2(y - self.height.at(time), self.distance.at(time))
        return self.view_from(position, turn, pitch, time)

    def view_from(self, position: np.ndarray, turn: float, pitch: float, time: float) -> View:
        """
        Camera anywhere, light at a time.

        :param position: of the camera (3,), metres.
        :param turn: of the optical axis about the vertical, radians; 0 looks along -z, positive
            is to the left.
        :param pitch: of the optical axis above the floor, radians.
        :param time: seconds into the clip.
        """
        level = np.array([-sin(turn), 0.0, -cos(turn)])
        right = np.array([cos(turn), 0.0, -sin(turn)])
        vertical = np.array([0.0, 1.0, 0.0])
        forward = cos(pitch) * level + sin(pitch) * vertical
        up = cos(pitch) * vertical - sin(pitch) * level
        azimuth, (x, _, z) = self.lamp_azimuth.at(time), self.middle
        reach = 4.0 * cos(self.lamp_elevation)
        lamp = Spot(position=(reach * sin(azimuth), 4.0 * sin(self.lamp_elevation),
                              reach * cos(azimuth)),
                    target=(x, z), power=0.62, exponent=3.0)
        return View(position, right, up, forward, lamp, self.brightness.at(time))


def hue_colour(hue: float, saturation: float, value: float) -> np.ndarray:
    """:return: RGB (3,) of a colour given by hue, saturation and value in [0, 1]."""
    ramp = np.abs((hue * 6 + np.array([0.0, 4.0, 2.0])) % 6 - 3) - 1
    return value * (1 - saturation * (1 - np.clip(ramp, 0, 1)))


def hue_difference(one: float, other: float) -> float:
    """:return: how far apart two hues are on their circle, 0 to 0.5."""
    return abs((one - other + 0.5) % 1 - 0.5)


def clip_shape(seed: int, clip: int) -> str:
    """:return: the clip's shape; clips 0 to 3, 4 to 7 and so on hold each shape once."""
    order = np.random.default_rng((seed, 1, clip // len(SHAPES))).permutation(len(SHAPES))
    return SHAPES[order[clip % len(SHAPES)]]


@dataclass(frozen=True)
class Arena:
    """
    What all logs of one place share.

    :param room: four low walls around the floor.
    :param hues: of floor and wall, in [0, 1).
    :param colours: RGB of floor, wall and of what is above the walls, (3, 3) in [0, 1].
    """

    room: Room
    hues: tuple[float, float]
    colours: np.ndarray


def draw_arena(number: int) -> Arena:
    """:return: the place of that number."""
    draw = np.random.default_rng((number, 4)).uniform
    hues = (draw(), draw())
    while hue_difference(*hues) < _LEAST_HUE_DIFFERENCE:
        hues = (hues[0], draw())
    return Arena(Room(draw(2.6, 3.2), draw(1.0, 1.4)), hues, np.stack([
        hue_colour(hues[0], draw(0.65, 0.95), draw(0.75, 0.95)),
        hue_colour(hues[1], draw(0.65, 0.95), draw(0.80, 1.00)),
        hue_colour(0.58, draw(0.05, 0.25), 0.95)]))


def mount(arena: int) -> tuple[float, float]:
    """
    How a camera that is bolted to one robot stands.

    :param arena: number of the place, and of its robot.
    :return: its height in metres; its pitch in radians, where the base cannot tilt it.
    """
    draw = np.random.default_rng((arena, 6)).uniform
    return draw(0.55, 0.65), draw(-0.20, -0.15)


def clip_scene(seed: int, clip: int, arena: int = 0, mounted: bool = False) -> Scene:
    """
    Draw a clip's scene.

    :param seed: of the log.
    :param clip: number of the clip; its scene depends on no other clip.
    :param arena: number of the place.
    :param mounted: whether the camera's height is the same in all clips, see :func:`mount`.
    :return: the scene.
    """
    rng = np.random.default_rng((seed, 0, clip))
    draw = rng.uniform
    place = draw_arena(arena)

    def wave(mean: float, swing: float, slowest: float, fastest: float) -> Wave:
        return Wave(mean, swing, 2 * pi / draw(fastest, slowest), draw(0, 2 * pi))

    shape = clip_shape(seed, clip)
    size = draw(0.75, 1.2)
    half_width = _HALF_WIDTH[shape] * size
    solid = Solid(shape, half_width, _PROPORTION[shape] * half_width, draw(-0.3, 0.3),
                  draw(-0.3, 0.3), draw(0, 2 * pi))
    hues = (*place.hues, draw())
    while min(hue_difference(hues[2], hue) for hue in hues[:2]) < _LEAST_HUE_DIFFERENCE:
        hues = (*hues[:2], draw())
    thing = hue_colour(hues[2], draw(0.80, 1.00), draw(0.85, 1.00))
    colours = np.insert(place.colours, 2, thing, axis=0)
    scene = Scene(
        solid=solid, room=place.room, hues=hues, colours=colours,
        tint=1 + draw(-0.06, 0.06) * np.array([1.0, 0.2, -1.0]), size=size,
        azimuth=draw(0, 2 * pi), speed=draw(0.12, 0.35) * rng.choice((-1, 1)),
        distance=wave(draw(1.6, 2.0), draw(0.15, 0.30), 10, 5),
        height=wave(draw(0.5, 0.7), 0.01, 2, 1),
        bearing=wave(0, draw(0.04, 0.11), 8, 4),
        above=wave(draw(0.0, 0.035), 0.01, 5, 2),
        brightness=wave(draw(0.85, 1.1), draw(0.08, 0.18), 8, 3),
        lamp_azimuth=wave(draw(0, 2 * pi), draw(0.2, 0.5), 12, 6),
        lamp_elevation=draw(0.8, 1.25))
    # Drawn anyway, so that all else is the same.
    if mounted:
        scene = replace(scene, height=replace(scene.height, mean=mount(arena)[0]))
    return scene


def clip_group(seed: int, clip: int, count: int, arena: int = 0, mounted: bool = False) -> Scene:
    """
    Draw the scene of a clip that shows several objects; room, light and path as of one.

    :param seed: of the log.
    :param clip: number of the clip; its scene depends on no other clip.
    :param count: of objects, 2 to 4, no two of the same shape.
    :param arena: number of the place.
    :param mounted: whether the camera's height is the same in all clips, see :func:`mount`.
    :return: the scene.
    """
    scene = clip_scene(seed, clip, arena, mounted)
    rng = np.random.default_rng((seed, 7, clip))
    shapes = [SHAPES[k] for k in rng.permutation(len(SHAPES))[:count]]
    sizes = rng.uniform(*_SMALLER, count)
    places = _places(rng, [_reach(shape, size) for shape, size in zip(shapes, sizes)])
    hues = list(scene.hues[:2])
    things = []
    for shape, size, (x, z) in zip(shapes, sizes, places):
        hue = rng.uniform()
        while min(hue_difference(hue, taken) for taken in hues) < _LEAST_HUE_DIFFERENCE:
            hue = rng.uniform()
        hues.append(hue)
        width = _HALF_WIDTH[shape] * size
        solid = Solid(shape, width, _PROPORTION[shape] * width, x, z, rng.uniform(0, 2 * pi))
        colour = hue_colour(hue, rng.uniform(0.80, 1.00), rng.uniform(0.85, 1.00))
        things.append(Other(solid, size, hue, colour))
    first, *others = things
    colours = scene.colours.copy()
    colours[2] = first.colour
    distance = replace(scene.distance, mean=scene.distance.mean + _FARTHER)
    return replace(scene, solid=first.solid, size=first.size, colours=colours, distance=distance,
                   hues=(*scene.hues[:2], first.hue), others=tuple(others))


def _reach(shape: str, size: float) -> float:
    """:return: radius of the circle on the floor that an object keeps within."""
    return _HALF_WIDTH[shape] * size * (sqrt(2) if shape == 'cube' else 1.0)


def _places(rng: np.random.Generator, reaches: list[float]) -> list[tuple[float, float]]:
    """:return: places on the floor (x, z) where objects of these radii do not touch."""
    while True:
        places: list[tuple[float, float]] = []
        for reach in reaches:
            away, around = _SPREAD * sqrt(rng.uniform()), rng.uniform(0, 2 * pi)
            place = away * sin(around), away * cos(around)
            if all(dist(place, other) >= reach + its + _APART
                   for other, its in zip(places, reaches)):
                places.append(place)
        if len(places) == len(reaches):
            return places
