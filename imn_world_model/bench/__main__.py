"""``python -m imn_world_model.bench``: performance figures, as ratios measured side by side."""
import argparse
import json
from pathlib import Path

from imn_world_model.base.cli import atomic_path, run_cli
from imn_world_model.base.cores import usable_cores
from imn_world_model.learning.hardware import add_accelerator_option, device_for


def main(arguments: list[str] | None = None) -> None:
    """Command line of the benchmarks."""
    parser = argparse.ArgumentParser(prog='imn_world_model.bench', description=__doc__)
    parser.add_argument('--winner', action='store_true', help='cost of finding the winner')
    parser.add_argument('--growth', action='store_true',
                        help='how that cost grows with modules and identities (and a picture)')
    parser.add_argument('--training', action='store_true',
                        help='images per second of training, beside a plain Lie-group VAE')
    parser.add_argument('--novelty', action='store_true',
                        help='what a model of 3Dshapes flags: unseen solids, textures')
    parser.add_argument('--decode', action='store_true', help='speed of reading a JPEG log')
    parser.add_argument('--node', action='store_true',
                        help='rates, latency and load of the ROS 2 node (needs ROS 2)')
    parser.add_argument('--gpu', action='store_true',
                        help='what a GPU does for training and the robot (six minutes at most; '
                             'what is missing is named)')
    parser.add_argument('--packages', type=Path, metavar='DIR', default=Path('wheels'),
                        help='for --gpu: wheels of packages that this Python lacks (default: '
                             'wheels)')
    parser.add_argument('--real', type=Path, metavar='DIR',
                        help='train on recordings of real objects and judge on another day '
                             '(minutes for each protocol and seed)')
    parser.add_argument('--scenes', type=Path, metavar='DIR',
                        help='where objects are in whole pictures, without a model, against true '
                             'boxes (minutes); with --model also what they are, and their tracks')
    parser.add_argument('--enroll', type=Path, metavar='DIR',
                        help='train without some objects of these recordings, teach them one by '
                             'one, judge on another day (some 15 minutes for each seed)')
    parser.add_argument('--in-a-row', type=int, default=0, metavar='N',
                        help='for --enroll: also N objects, most of them painted, one after '
                             'another (half a minute each)')
    parser.add_argument('--predict', action='store_true',
                        help='errors of imagined frames beside simple rivals; needs --run and '
                             '--data (minutes for each seed)')
    parser.add_argument('--photographs', type=Path, metavar='DIR',
                        help='sides of photographed objects that were not seen, imagined by '
                             'turning those that were (DIR as for --real); needs --run')
    parser.add_argument('--motion', action='store_true',
                        help='the state between, after and without images, by commands and by '
                             'constant velocity; needs --run, --data and --others')
    parser.add_argument('--pose', action='store_true',
                        help='poses in metres, calibrated on --data with 50 poses and judged on '
                             '--others (and a picture)')
    parser.add_argument('--data', nargs='+', type=Path, default=[], metavar='LOG',
                        help='for --predict, --motion: a log with actions; for --pose: with poses')
    parser.add_argument('--others', nargs='+', type=Path, default=[], metavar='LOG',
                        help='for --predict: a log of combinations of actions that --data lacks; '
                             'for --motion: a log of 50 images per second; for --pose: one '
                             'with poses, to judge on')
    parser.add_argument('--steps', type=int,
                        help='for --predict, --motion, --photographs: steps of fitting')
    parser.add_argument('--protocols', nargs='+', default=[], metavar='NAME', help='for --real')
    parser.add_argument('--seeds', nargs='+', type=int, default=[0, 1, 2],
                        help='for --real, --enroll, --predict, --motion, --photographs')
    parser.add_argument('--preset', default='objects',
                        help='for --real, --enroll')
    parser.add_argument('--set', nargs='+', default=[], metavar='SECTION.KEY=VALUE',
                        help='for --real, --enroll')
    parser.add_argument('--rehearse', action='store_true',
                        help='--real without the last recording, which is for judging: to choose '
                             'settings')
    parser.add_argument('--runs', type=Path, default=Path('runs/real'), metavar='DIR',
                        help='run folders of --real')
    parser.add_argument('--model', type=Path, metavar='FILE.onnx',
                        help='for --node, --novelty, --pose, --scenes, --gpu')
    parser.add_argument('--run', type=Path,
                        help='run folder (or a folder with one run in it) for --winner: '
                             'agreement on its test split too (default: an untrained network of '
                             'the base sizes); perception for --predict')
    parser.add_argument('--compare', type=int, default=0, metavar='N',
                        help='test images for that agreement (default: all)')
    parser.add_argument('--out', type=Path, default=Path('bench.json'), metavar='FILE.json')
    add_accelerator_option(parser)
    options = parser.parse_args(arguments)
    device = device_for(options.accelerator)
    parts = ('winner', 'growth', 'training', 'novelty', 'decode', 'node')
    everything = not (options.real or options.scenes or options.predict or options.motion
                      or options.photographs or options.pose or options.gpu
                      or any(getattr(options, part) for part in parts))
    figures: dict[str, dict[str, float]] = {}
    if options.gpu:
        from imn_world_model.bench import gpu
        figures['gpu'] = gpu.run(options.model, options.packages, options.accelerator)
    if options.real:
        from imn_world_model.bench import real
        figures['real'] = real.run(options.real, options.protocols, options.seeds, options.preset,
                                   options.set, options.runs, options.rehearse,
                                   options.accelerator)
    if options.scenes:
        from imn_world_model.bench import scenes
        figures['scenes'] = scenes.run(options.scenes)
        if options.model:
            from imn_world_model.bench import identified
            from imn_world_model.robot.inference import ImnModel
            figures['scenes'] |= identified.run(options.scenes, ImnModel(options.model, ['cpu']))
    if options.enroll:
        from imn_world_model.bench import enroll
        figures['enroll'] = enroll.run(options.enroll, options.seeds, options.preset, options.set,
                                       options.runs, options.in_a_row, options.accelerator)
    if options.predict or options.motion or options.photographs:
        from imn_world_model.prediction.fitting import FitOptions
        fitting = FitOptions() if options.steps is None else FitOptions(options.steps)
    if options.photographs:
        from imn_world_model.bench import turning
        figures['photographs'] = turning.run(options.run, options.photographs, options.seeds,
                                             fitting)
    if options.predict:
        from imn_world_model.bench import predict
        figures['predict'] = predict.run(options.run, options.data, options.others, options.seeds,
                                         fitting, options.out.with_suffix('.png'))
    if options.motion:
        from imn_world_model.bench import motion
        figures['motion'] = motion.run(options.run, options.data, options.others, options.seeds,
                                       fitting)
    if options.pose:
        from imn_world_model.base.shipped import shipped_model
        from imn_world_model.bench import pose
        from imn_world_model.robot.inference import ImnModel
        figures['pose'] = pose.run(ImnModel(options.model or shipped_model(), ['cpu']),
                                   options.data, options.others, options.out.with_suffix('.png'))
    if options.winner or everything:
        from imn_world_model.bench import winner
        figures['winner'] = winner.run(options.run, options.compare, device.type)
    if options.growth or everything:
        from imn_world_model.bench import growth
        figures['growth'] = growth.run(options.out.with_suffix('.png'), device=device.type)
    if options.training or everything:
        from imn_world_model.bench import training
        figures['training'] = training.run(accelerator=device.type)
    if options.novelty or everything:
        from imn_world_model.bench import novelty
        figures['novelty'] = novelty.run(options.model or novelty.MODEL)
    if options.decode or everything:
        from imn_world_model.bench import decode
        figures['decode'] = decode.run()
    if options.node or everything:
        from imn_world_model.bench import crowd, node
        figures['node'] = (node.run(options.model or node.MODEL)
                           | crowd.run(options.model or node.MODEL))
    lines = [f'| {part}: {name} | {value:.3g} |' for part, values in figures.items()
             if part != 'gpu'                         # has tables of its own
             for name, value in values.items()]
    if lines:
        print('\n'.join([f'| figure ({usable_cores()} cores) | value |', '|---|---|', *lines]))
    with atomic_path(options.out) as scratch:
        scratch.write_text(json.dumps(figures, indent=2))


if __name__ == '__main__':
    run_cli(main)
