"""
``python -m imn_world_model.calibrate``: poses in metres, learnt from some dozen known ones.

    python -m imn_world_model.calibrate --model model.onnx --data log --pose-topic /object/pose
        --out posed.onnx

The log holds images, the camera's calibration (sensor_msgs/CameraInfo) and poses of the object
that fills the model's view: PoseStamped, PoseWithCovarianceStamped, Odometry, or tf with
--object-frame. The file that is written publishes poses with covariances (docs/poses.md).
"""
import argparse
from pathlib import Path

from imn_world_model.base.cli import run_cli
from imn_world_model.base.errors import UserError
from imn_world_model.exporting.posed import write_posed
from imn_world_model.learning.examples import keep_poses, read_examples
from imn_world_model.learning.poses import fit, summary
from imn_world_model.robot.inference import ImnModel

# More make the map slower and hardly better.
MOST = 400


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog='imn_world_model.calibrate', description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--model', type=Path, required=True, metavar='FILE.onnx')
    parser.add_argument('--data', nargs='+', type=Path, required=True, metavar='LOG',
                        help='rosbag2 folders, .mcap or .db3')
    parser.add_argument('--pose-topic', required=True, metavar='TOPIC')
    parser.add_argument('--object-frame', default='', metavar='FRAME',
                        help="the object's frame, where the topic is /tf")
    parser.add_argument('--camera-info', type=Path, metavar='FILE.yaml',
                        help='calibration of the camera, where the log holds none')
    parser.add_argument('--topics', nargs='+', default=[], metavar='GLOB',
                        help='image topic of the camera (default: the only one)')
    parser.add_argument('--poses', type=int, default=MOST, metavar='N',
                        help=f'learn from at most so many, spread over the log (default {MOST})')
    parser.add_argument('--out', type=Path, required=True, metavar='NEW.onnx')
    options = parser.parse_args(arguments)
    if not 1 <= options.poses <= 2000:
        raise UserError(f'--poses is {options.poses}; it must be 1 to 2000')
    model = ImnModel(options.model, ['cpu'])
    examples = keep_poses(
        read_examples(model, options.data, options.pose_topic, options.object_frame,
                      options.camera_info, tuple(options.topics)), options.poses)
    poses = fit(examples, model.labels)
    write_posed(options.model, options.out, poses)
    print(f'{options.out}: {summary(poses, examples)}')


if __name__ == '__main__':
    run_cli(main)
