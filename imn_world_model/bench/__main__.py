"""``python -m imn_world_model.bench``: performance figures, as ratios measured side by side."""
import argparse
import json
import os
from pathlib import Path

from imn_world_model.cli import atomic_path, run_cli


def main(arguments: list[str] | None = None) -> None:
    """Command line of the benchmarks."""
    parser = argparse.ArgumentParser(prog='imn_world_model.bench', description=__doc__)
    parser.add_argument('--winner', action='store_true', help='cost of finding the winner')
    parser.add_argument('--decode', action='store_true', help='speed of reading a JPEG log')
    parser.add_argument('--node', action='store_true',
                        help='rates, latency and load of the ROS 2 node (needs ROS 2)')
    parser.add_argument('--model', type=Path, metavar='FILE.onnx', help='for --node')
    parser.add_argument('--run', type=Path, help='run folder for --winner (default: untrained '
                                                 'network of the base sizes)')
    parser.add_argument('--out', type=Path, default=Path('bench.json'), metavar='FILE.json')
    options = parser.parse_args(arguments)
    everything = not (options.winner or options.decode or options.node)
    figures: dict[str, dict[str, float]] = {}
    if options.winner or everything:
        from imn_world_model.bench import winner
        figures['winner'] = winner.run(options.run)
    if options.decode or everything:
        from imn_world_model.bench import decode
        figures['decode'] = decode.run()
    if options.node or everything:
        from imn_world_model.bench import node
        figures['node'] = node.run(options.model or node.MODEL)
    print(f'| figure ({os.cpu_count()} cores) | value |\n|---|---|')
    for part, values in figures.items():
        for name, value in values.items():
            print(f'| {part}: {name} | {value:.3g} |')
    with atomic_path(options.out) as scratch:
        scratch.write_text(json.dumps(figures, indent=2))


if __name__ == '__main__':
    run_cli(main)
