"""What lies among the data and is not read: a line for each kind, with a count and an example."""
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from imn_world_model.base.marks import is_own_picture

CONVERT = 'convert to PNG or JPEG'
FFMPEG = 'convert to .mp4'
MCAP = 'convert to MCAP or PNG'
UNPACK = 'unpack it'
# Suffix -> why a file is not read and what to do.
KNOWN = {
    '.gif': f'animations and GIFs are not read; {FFMPEG} or PNG',
    **dict.fromkeys(('.heic', '.heif', '.avif', '.jp2', '.j2k', '.jxl', '.exr', '.hdr', '.dng',
                     '.nef', '.cr2', '.arw', '.raw', '.svg', '.tga', '.pfm', '.psd', '.ico',
                     '.pbm', '.pnm', '.jfif', '.jpe'),
                    f'images of this kind are not read; {CONVERT}'),
    **dict.fromkeys(('.mpg', '.mpeg', '.wmv', '.flv', '.ts', '.mts', '.m2ts', '.3gp', '.ogv',
                     '.h264', '.h265', '.hevc', '.mjpeg', '.mjpg'),
                    f'videos of this kind are not read; {FFMPEG}'),
    **dict.fromkeys(('.zip', '.tar', '.gz', '.tgz', '.bz2', '.xz', '.7z', '.rar', '.zst'),
                    f'archives are not read; {UNPACK}'),
    **dict.fromkeys(('.svo', '.svo2', '.oni', '.rrd', '.pcap', '.klg', '.aedat', '.aedat4'),
                    f'recordings of this kind are not read; {MCAP}'),
    **dict.fromkeys(('.npy', '.npz', '.mat', '.pkl', '.pt', '.parquet', '.tfrecord'),
                    f'arrays are not read; {CONVERT}, or write an .h5 in the 3Dshapes format'),
}
# First bytes -> what a file is and the suffix that would say so.
CONTENTS = ((b'\x89PNG\r\n', 'PNG', '.png'), (b'\xff\xd8\xff', 'JPEG', '.jpg'),
            (b'GIF8', 'GIF', '.gif'), (b'II*\0', 'TIFF', '.tif'), (b'MM\0*', 'TIFF', '.tif'),
            (b'\x89MCAP', 'MCAP', '.mcap'), (b'SQLite format 3', 'SQLite', '.db3'),
            (b'\x89HDF', 'HDF5', '.h5'))
LOOK = 16
# Suffixes of other files that are named.
SHOWN = 5

Kind = tuple[str, str, str]


@dataclass
class PassedOver:
    """
    Files that are not read.

    :param kinds: singular, plural and reason of each kind -> how many.
    :param examples: of each kind the first, and under ``None`` of the others.
    :param others: suffix -> number of files that nobody would take for data.
    :param lists: files that are passed over if no picture has its time from them.
    """

    kinds: Counter[Kind] = field(default_factory=Counter)
    examples: dict[Kind | None, Path] = field(default_factory=dict)
    others: Counter[str] = field(default_factory=Counter)
    lists: list[Path] = field(default_factory=list)

    def add(self, file: Path) -> None:
        """Count a file under what its name or its first bytes say."""
        suffix = file.suffix.lower()
        content = _content(file)
        if is_own_picture(file):
            self.add_kind('picture by imn_world_model itself',
                          'pictures by imn_world_model itself', '', file)
        elif suffix in KNOWN:
            self.add_kind(f'{suffix} file', f'{suffix} files', KNOWN[suffix], file)
        elif content:
            name, end = content
            self.add_kind(f'file that is {name} by content', f'files that are {name} by content',
                          f'their names do not say so; add {end}', file)
        else:
            self.others[suffix or 'no suffix'] += 1
            self.examples.setdefault(None, file)

    def add_kind(self, one: str, several: str, reason: str, path: Path) -> None:
        """Count a path under a kind."""
        self.kinds[one, several, reason] += 1
        self.examples.setdefault((one, several, reason), path)

    def lines(self) -> list[str]:
        """:return: what to tell the user."""
        lines = []
        for (one, several, reason), count in self.kinds.items():
            lines.append(f'{count} {one if count == 1 else several} passed over, such as '
                         f'{self.examples[one, several, reason]}' + (f': {reason}' * bool(reason)))
        if self.others:
            total = self.others.total()
            shown = ', '.join(f'{suffix} {n}' for suffix, n in self.others.most_common(SHOWN))
            rest = ', ...' if len(self.others) > SHOWN else ''
            lines.append(f'{total} other file{"s" * (total > 1)} passed over ({shown}{rest}), '
                         f'such as {self.examples[None]}: of kinds that are not read')
        return lines


def _content(file: Path) -> tuple[str, str] | None:
    """:return: what a file is by its first bytes, and the suffix for it."""
    try:
        with file.open('rb') as stream:
            head = stream.read(LOOK)
    except OSError:
        return None
    if head[:4] == b'RIFF' and head[8:12] == b'WEBP':
        return 'WebP', '.webp'
    return next(((name, suffix) for start, name, suffix in CONTENTS if head.startswith(start)),
                None)
