"""
Pictures of a simulated robot camera: perspective, shadows, gloss, sensor noise.

One ray per pixel, and nine where parts or shadows meet: smooth edges at little more than the cost
of one.
"""
import numpy as np

from imn_world_model.rendering.raycast import FLOOR, OBJECT, SKY, WALL, Solid, dot
from imn_world_model.rendering.robot_scene import Scene, View

WIDTH, HEIGHT = 640, 480
FOCAL_LENGTH = 554.0       # pixels: 60 degrees across
CENTRE = (WIDTH / 2, HEIGHT / 2)

# Shares of the light; they sum to about 1 on a surface that faces camera and lamp.
_AMBIENT = 0.36
_CAMERA_LIGHT = 0.30       # a lamp on the robot: keeps the shaded side readable
_GLOSS, _GLOSS_EXPONENT = 0.25, 24
_SKIRTING = 0.07           # metres, a dark strip at the foot of the walls
_VIGNETTE = 0.15           # loss of light in the corners
_NOISE = 1.5               # grey levels, standard deviation
_STEP = 0.04               # difference between neighbours that calls for more rays


def object_materials(scene: Scene) -> list[int]:
    """:return: what each object is called among materials: rows of the scene's palette."""
    return [OBJECT, *range(SKY + 1, SKY + 1 + len(scene.others))]


def silhouettes(scene: Scene, view: View) -> tuple[np.ndarray, np.ndarray]:
    """
    Tell which pixels show which object.

    :return: (objects, 480, 640) bool, where nothing else hides it; the same, where it would be
        seen if it were alone.
    """
    rows, columns = np.indices((HEIGHT, WIDTH), np.float32).reshape(2, -1) + 0.5
    direction = _pixel_rays(view, columns, rows)
    origin = view.position.astype(np.float32)[:, None]
    depth = np.stack([solid.hit(origin, direction)[0] for solid in scene.solids])
    whole = np.isfinite(depth)
    seen = whole & (depth == depth.min(0))
    return tuple(each.reshape(-1, HEIGHT, WIDTH) for each in (seen, whole))


def _pixel_rays(view: View, columns: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """:return: directions (3, N) float32 through image points, of unit depth."""
    across = (columns - CENTRE[0]) / FOCAL_LENGTH
    down = (rows - CENTRE[1]) / FOCAL_LENGTH
    right, up, forward = (axis.astype(np.float32)[:, None]
                          for axis in (view.right, view.up, view.forward))
    return forward + across * right - down * up


def _contact(solid: Solid, point: np.ndarray) -> np.ndarray:
    """:return: (N,) how much of the ambient light the object leaves to floor points (3, N)."""
    x, z = point[0] - solid.x, point[2] - solid.z
    if solid.shape == 'cube':
        cosine, sine = float(np.cos(solid.yaw)), float(np.sin(solid.yaw))
        radius = np.maximum(np.abs(cosine * x - sine * z), np.abs(sine * x + cosine * z))
    else:
        radius = np.sqrt(x * x + z * z)
    if solid.shape in ('sphere', 'capsule'):
        return 1 - 0.7 * np.exp(-1.8 * (radius / solid.width) ** 2)
    return 1 - 0.4 * np.exp(-3.0 * np.maximum(radius / solid.width - 1, 0))


def _trace(scene: Scene, view: View, columns: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """
    Follow one ray for each image point.

    :param columns: (N,), pixels.
    :param rows: (N,), pixels.
    :return: RGB (3, N) float32, 1 is white.
    """
    direction = _pixel_rays(view, columns, rows)
    origin = view.position.astype(np.float32)[:, None]
    material, distance, normal = scene.room.hit(origin, direction)
    codes = object_materials(scene)
    for code, solid in zip(codes, scene.solids):
        its_distance, its_normal = solid.hit(origin, direction)
        nearest = np.flatnonzero(its_distance < distance)
        material[nearest] = code
        distance[nearest] = its_distance[nearest]
        normal[:, nearest] = its_normal[:, nearest]
    thing = np.flatnonzero(np.isin(material, codes))

    point = origin + distance * direction
    to_lamp = view.lamp.towards(point)
    lamp = view.lamp.shade(to_lamp, normal)
    for code, solid in zip(codes, scene.solids):
        lit = np.flatnonzero((lamp > 0) & (material != code) & (material != SKY))
        shadow = lit[solid.blocks(point[:, lit], to_lamp[:, lit])]
        lamp[shadow] = 0.0

    to_eye = -direction / np.sqrt(dot(direction, direction))
    facing = np.clip(dot(normal, to_eye), 0.0, None)
    ambient = 0.85 + 0.15 * normal[1]
    floor = np.flatnonzero(material == FLOOR)
    for solid in scene.solids:
        ambient[floor] *= _contact(solid, point[:, floor])
    shade = _AMBIENT * ambient + _CAMERA_LIGHT * facing + lamp
    # Worn patches, wide enough to survive the reduction to 64 pixels.
    shade[floor] *= 1 + 0.04 * np.sin(5 * point[0, floor] + 1) * np.sin(6 * point[2, floor])
    shade[(material == WALL) & (point[1] < _SKIRTING)] *= 0.55
    shade[material == SKY] = 1.0

    colour = np.stack([channel.take(material) for channel in scene.palette.astype(np.float32).T])
    colour *= shade
    half = to_lamp[:, thing] + to_eye[:, thing]
    half /= np.sqrt(dot(half, half))
    glint = np.clip(dot(half, normal[:, thing]), 0.0, None) ** _GLOSS_EXPONENT
    colour[:, thing] += _GLOSS * glint * (lamp[thing] > 0)

    return colour


def render(scene: Scene, view: View, noise: np.random.Generator) -> np.ndarray:
    """
    Take a picture.

    :param scene: what is there.
    :param view: the instant.
    :param noise: of the sensor.
    :return: (480, 640, 3) uint8 RGB.
    """
    rows, columns = np.indices((HEIGHT, WIDTH), np.float32).reshape(2, -1) + 0.5
    colour = _trace(scene, view, columns, rows)

    # Where neighbours differ, the mean of nine rays takes the place of one.
    picture = colour.reshape(3, HEIGHT, WIDTH)
    edge = np.zeros((HEIGHT, WIDTH), bool)
    across = (np.abs(np.diff(picture, axis=2)) > _STEP).any(0)
    down = (np.abs(np.diff(picture, axis=1)) > _STEP).any(0)
    edge[:, 1:] |= across
    edge[:, :-1] |= across
    edge[1:] |= down
    edge[:-1] |= down
    fine = np.flatnonzero(edge)
    third = np.array([-1, 0, 1], np.float32) / 3
    more = _trace(scene, view, (columns[fine, None, None] + third).repeat(3, 1).ravel(),
                  (rows[fine, None, None] + third[:, None]).repeat(3, 2).ravel())
    colour[:, fine] = more.reshape(3, -1, 9).mean(2)

    colour *= (view.brightness * scene.tint).astype(np.float32)[:, None]
    off_axis = ((columns - CENTRE[0]) ** 2 + (rows - CENTRE[1]) ** 2) / sum(c * c for c in CENTRE)
    colour *= 255 * (1 - _VIGNETTE * off_axis)
    colour += _NOISE * noise.standard_normal(colour.shape, np.float32) + 0.5
    levels = np.clip(colour, 0, 255, out=colour).astype(np.uint8)
    return np.ascontiguousarray(levels.T).reshape(HEIGHT, WIDTH, 3)
