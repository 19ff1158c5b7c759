"""Scalars in TensorBoard's event files, by the standard library alone.

Both writers that exist (`tensorboard`, `tensorboardX`) need NumPy, which would not fit into the monitor image. The
format is small and fixed: records framed by their length and its CRC-32C (TFRecord,
https://www.tensorflow.org/tutorials/load_data/tfrecord), each holding one protobuf message `Event`
(tensorboard/compat/proto/event.proto; the numbers below are its field numbers).
"""

import itertools
import os
import socket
import struct
import time
from pathlib import Path
from typing import Final

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_EVENT_WALL_TIME, _EVENT_STEP, _EVENT_FILE_VERSION, _EVENT_SUMMARY, _EVENT_SESSION_LOG = 1, 2, 3, 5, 7
_SUMMARY_VALUE, _VALUE_TAG, _VALUE_SIMPLE_VALUE = 1, 1, 2
_SESSION_LOG_STATUS, _SESSION_START = 1, 1
_MASK32: Final = 0xFFFFFFFF

_file_numbers = itertools.count()


def _crc32c_table() -> tuple[int, ...]:
    def entry(byte: int) -> int:
        for _ in range(8):
            byte = (byte >> 1) ^ (0x82F63B78 if byte & 1 else 0)
        return byte

    return tuple(entry(byte) for byte in range(256))


_CRC32C: Final = _crc32c_table()


def masked_crc32c(data: bytes) -> int:
    """The checksum of a TFRecord: CRC-32C, rotated right by 15 bits and offset by a constant."""
    crc = _MASK32
    for byte in data:
        crc = _CRC32C[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    crc ^= _MASK32
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & _MASK32


def _varint(number: int) -> bytes:
    number &= 0xFFFFFFFFFFFFFFFF
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _key(field: int, wire_type: int) -> bytes:
    return _varint(field << 3 | wire_type)


def _message(field: int, data: bytes) -> bytes:
    return _key(field, _BYTES) + _varint(len(data)) + data


def _record(data: bytes) -> bytes:
    length = struct.pack("<Q", len(data))
    return b"".join(
        [length, struct.pack("<I", masked_crc32c(length)), data, struct.pack("<I", masked_crc32c(data))],
    )


def _event(wall_time: float, step: int, content: bytes) -> bytes:
    head = _key(_EVENT_WALL_TIME, _FIXED64) + struct.pack("<d", wall_time) + _key(_EVENT_STEP, _VARINT) + _varint(step)
    return _record(head + content)


class EventWriter:
    """Appends scalars to a new event file in a folder, which it makes.

    `purge_step`: what earlier files of this folder say from this step on is left out of the plots. A resumed run gives
    the first step that it will do again.
    """

    def __init__(self, folder: Path, purge_step: int | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        now = time.time()
        name = f"events.out.tfevents.{int(now):010d}.{socket.gethostname()}.{os.getpid()}.{next(_file_numbers)}"
        self._file = (folder / name).open("ab")
        self._file.write(_event(now, 0, _message(_EVENT_FILE_VERSION, b"brain.Event:2")))
        if purge_step is not None:
            start = _key(_SESSION_LOG_STATUS, _VARINT) + _varint(_SESSION_START)
            self._file.write(_event(now, purge_step, _message(_EVENT_SESSION_LOG, start)))
        self._file.flush()

    def scalar(self, tag: str, value: float, step: int, wall_time: float | None = None) -> None:
        """Adds one point of the curve `tag`. `wall_time` is in seconds since 1970 and defaults to now."""
        point = _message(_VALUE_TAG, tag.encode()) + _key(_VALUE_SIMPLE_VALUE, _FIXED32) + struct.pack("<f", value)
        summary = _message(_EVENT_SUMMARY, _message(_SUMMARY_VALUE, point))
        self._file.write(_event(time.time() if wall_time is None else wall_time, step, summary))

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        self._file.close()
