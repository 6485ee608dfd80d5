"""Listen to what the robot sees: the object's name, and how it is transformed."""
import rclpy
from imn_msgs.msg import Identity, Transform

from imn_world_model.nodes.messages import transform_to_arrays

rclpy.init()
node = rclpy.create_node('listener')


def seen(message: Identity) -> None:
    """Tell the name of what an image shows."""
    print(f'{message.label} ({message.confidence:.2f})', flush=True)


def moved(message: Transform) -> None:
    """Tell the coordinates of the modules that take part."""
    arrays = transform_to_arrays(message)                # transform is (u, u), latent_mean (m, L)
    print(arrays.latent_mean[arrays.active].astype(float).round(2).tolist(), flush=True)


node.create_subscription(Identity, '/imn/identity', seen, 10)
node.create_subscription(Transform, '/imn/transform', moved, 10)
rclpy.spin(node)
