"""One command trains on a folder that holds every kind of source at once."""
import shutil
import subprocess
import sys
from pathlib import Path

from recordings import drive, storage_file, write_bag
from rosbags.rosbag2 import CompressionMode, StoragePlugin
from test_data_frames import write_h5, write_images, write_video


def test_train_takes_a_folder_of_everything(tmp_path: Path) -> None:
    logs = tmp_path / 'logs'
    write_bag(logs / 'monday' / 'mcap', drive(3, 8), compression=CompressionMode.STORAGE)
    write_bag(logs / 'monday' / 'sqlite', drive(3, 8), StoragePlugin.SQLITE3, CompressionMode.FILE)
    packed = write_bag(tmp_path / 'packed', drive(2, 8), compression=CompressionMode.MESSAGE)
    shutil.copy(storage_file(packed), logs / 'bare.mcap')
    plain = write_bag(tmp_path / 'plain', drive(2, 8), StoragePlugin.SQLITE3)
    shutil.copy(storage_file(plain), logs / 'bare.db3')
    write_h5(logs / 'shapes.h5')
    write_video(logs / 'drive.avi')
    write_images(logs / 'photos' / 'cup', 1)
    write_images(logs / 'photos' / 'box', 2)
    cut = storage_file(write_bag(logs / 'cut', drive(2, 8)))
    cut.write_bytes(cut.read_bytes()[:cut.stat().st_size * 2 // 3])
    result = subprocess.run(
        [sys.executable, '-m', 'imn_world_model.train', '--data', str(logs), '--preset', 'debug',
         '--accelerator', 'cpu', '--quiet', '--out', str(tmp_path / 'runs'), '--still', '0',
         '--set', 'train.steps=4'], cwd=Path(__file__).parents[1], text=True, capture_output=True,
        env={'PATH': '', 'IMN_CACHE_DIR': str(tmp_path / 'cache')})
    assert result.returncode == 0, result.stderr
    assert 'trained 4 steps' in result.stdout
    assert 'cut.mcap is cut off or corrupt' in result.stderr
    assert list((tmp_path / 'runs').glob('*/checkpoints/*.ckpt'))
