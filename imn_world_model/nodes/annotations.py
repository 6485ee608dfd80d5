"""Boxes and names over a camera's image in Foxglove, where foxglove_msgs is installed."""
from typing import Any

try:
    from foxglove_msgs.msg import Color, ImageAnnotations, Point2, PointsAnnotation, TextAnnotation
    INSTALLED = True
except ImportError:
    INSTALLED = False

from imn_world_model.nodes.overlay import caption, colour_of

# Pixels of an image of so many along its longer side; they grow and shrink with it.
THICKNESS, FONT_SIZE, SIDE = 2.0, 16.0, 640.0


def annotations(message: Any) -> 'ImageAnnotations':
    """
    Draw what `objects` tells.

    :param message: imn_msgs/ObjectArray.
    """
    stamp = message.header.stamp
    scale = max(message.width, message.height) / SIDE
    drawn = ImageAnnotations()
    for found in message.objects:
        x, y, width, height = (float(value) for value in found.box)
        red, green, blue = (value / 255.0 for value in colour_of(found.track))
        colour = Color(r=red, g=green, b=blue, a=1.0)
        drawn.points.append(PointsAnnotation(
            timestamp=stamp, type=PointsAnnotation.LINE_LOOP, outline_color=colour,
            thickness=THICKNESS * scale, points=[Point2(x=x, y=y), Point2(x=x + width, y=y),
                                         Point2(x=x + width, y=y + height),
                                         Point2(x=x, y=y + height)]))
        drawn.texts.append(TextAnnotation(
            timestamp=stamp, position=Point2(x=x, y=y), text=caption(found),
            font_size=FONT_SIZE * scale, text_color=colour, background_color=Color(a=0.6)))
    return drawn
