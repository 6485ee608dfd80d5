"""What the first bytes of a compressed picture say of it, before anything is decoded."""
import re
import struct
from dataclasses import dataclass

PNG_MAGIC = b'\x89PNG\r\n\x1a\n'
# Channels of PNG's colour types: grey, RGB, palette, each also with alpha.
PNG_CHANNELS = {0: 1, 2: 3, 3: 3, 4: 1, 6: 3}
PNG_PALETTE = 3
# PGM and PPM, as numbers or bytes; comments may stand between the words.
PNM_HEAD = re.compile(rb'P([2356])(?:\s+(?:#[^\n]*\n\s*)*)(\d+)(?:\s+(?:#[^\n]*\n\s*)*)(\d+)'
                      rb'(?:\s+(?:#[^\n]*\n\s*)*)(\d+)\s')
TIFF_BITS, TIFF_CHANNELS = 258, 277
HEAD_BYTES = 1 << 12


@dataclass(frozen=True)
class Head:
    """
    What a compressed picture says of itself; what it does not say is as of most pictures.

    :param height: in pixels, of a JPEG; 0 where it does not say.
    :param width: likewise.
    :param channels: 1 for grey, else 3; alpha does not count.
    :param bits: of a sample.
    :param white: the brightest sample of a PGM or PPM that OpenCV does not stretch; else 0.
    :param indexed: whether its pixels are numbers of colours, as those of masks often are.
    """

    height: int = 0
    width: int = 0
    channels: int = 3
    bits: int = 8
    white: int = 0
    indexed: bool = False

    @property
    def is_deep(self) -> bool:
        """Whether its samples have more than 8 bits, and it does not say how many are used."""
        return self.bits > 8 and not self.white


def read_head(data: memoryview) -> Head:
    """
    Look at JPEG, PNG, TIFF, PGM and PPM.

    :param data: all bytes of the picture, or of PNG, PGM and PPM the first ones.
    """
    start = bytes(data[:8])
    if start[:2] == b'\xff\xd8':
        return _jpeg(data)
    if start == PNG_MAGIC and len(data) > 25:
        return Head(bits=16 if data[24] == 16 else 8, channels=PNG_CHANNELS.get(data[25], 3),
                    indexed=data[25] == PNG_PALETTE)
    if start[:4] in (b'II*\0', b'MM\0*'):
        return _tiff(data)
    found = PNM_HEAD.match(bytes(data[:HEAD_BYTES])) if start[:1] == b'P' else None
    if found:
        white = min(max(1, int(found[4])), 65535)
        # OpenCV stretches numbers of 8 bits itself, but neither bytes nor deep samples.
        stretched = white == 255 or white < 255 and found[1] in b'23'
        return Head(channels=1 if found[1] in b'25' else 3, bits=16 if white > 255 else 8,
                    white=0 if stretched else white)
    return Head()


def _jpeg(data: memoryview) -> Head:
    place = 2
    while place + 10 <= len(data):
        marker = data[place + 1]
        if data[place] != 0xFF or marker in (0x00, 0xFF):
            place += 1                                # what libjpeg skips as well
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack_from('>HH', data, place + 5)
            return Head(height, width, 1 if data[place + 9] == 1 else 3)
        elif marker == 0xDA:                          # the pixels begin
            break
        else:
            place += 2 + struct.unpack_from('>H', data, place + 2)[0]
    return Head()


def _tiff(data: memoryview) -> Head:
    order = '<' if data[0] == 0x49 else '>'
    tags = {TIFF_BITS: 8, TIFF_CHANNELS: 1}
    try:
        place, = struct.unpack_from(f'{order}I', data, 4)
        count, = struct.unpack_from(f'{order}H', data, place)
        for k in range(count):
            tag, kind, number, value = struct.unpack_from(f'{order}HHI4s', data,
                                                          place + 2 + 12 * k)
            if tag in tags and kind == 3:             # 16-bit words, in place where up to two fit
                where = value if number <= 2 else data[struct.unpack(f'{order}I', value)[0]:]
                tags[tag], = struct.unpack_from(f'{order}H', where)
    except struct.error:                              # cut off: decoding will tell
        return Head()
    return Head(bits=tags[TIFF_BITS], channels=3 if tags[TIFF_CHANNELS] >= 3 else 1)
