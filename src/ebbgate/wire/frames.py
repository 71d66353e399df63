"""The frames of a WebSocket that nearly all messages are: one short text frame each, that came by itself.

`websockets` takes 6 us to read such a frame and up to 4 us to write it, which is a sixth of what a command takes
that comes alone. Everything else is left to it.
"""

import os
from typing import Final

try:
    from websockets.speedups import apply_mask
except ImportError:
    from websockets.utils import apply_mask

_TEXT: Final = 0x81  # a whole message, without extensions
_MASKED: Final = 0x80
_SHORT_MAX: Final = 125  # so long a text has its length in one byte, up to 65,535 in two more
_TWO_BYTES: Final = 126
_LONG_MIN: Final = 1 << 16
_MASK_BYTES: Final = 4


def text_frame(text: bytes, *, masked: bool) -> bytes:
    """Return the frame of a text message; a client's is masked."""
    length, mask_bit = len(text), _MASKED if masked else 0
    if length <= _SHORT_MAX:
        head = bytes((_TEXT, mask_bit | length))
    elif length < _LONG_MIN:
        head = bytes((_TEXT, mask_bit | _TWO_BYTES, length >> 8, length & 255))
    else:
        head = bytes((_TEXT, mask_bit | _TWO_BYTES + 1)) + length.to_bytes(8)
    if not masked:
        return head + text
    mask = os.urandom(_MASK_BYTES)
    return head + mask + apply_mask(text, mask)


class Cutter:
    """Knows where frames begin in what arrives over one connection."""

    __slots__ = ("_left", "_masked")

    def __init__(self, *, masked: bool) -> None:
        """The next byte is a frame's first; those of a client are masked."""
        self._masked = masked
        self._left = 0  # bytes of the last frame that have not arrived yet; -1: nobody knows

    @property
    def is_between(self) -> bool:
        """Whether no frame has arrived in part; also if it is not known where frames begin."""
        return self._left <= 0

    def text(self, data: bytes) -> bytes | None:
        """Return the text if `data` is one whole, short frame of one; else None, and `pass_on` is to be told."""
        size = len(data)
        if self._left or size < 2 or data[0] != _TEXT:
            return None
        length, start = data[1], 2
        if self._masked:
            length -= _MASKED
            start += _MASK_BYTES
        if length < 0:
            return None  # not masked
        if length == _TWO_BYTES and size > start + 2:
            length, start = data[2] << 8 | data[3], start + 2
        elif length > _SHORT_MAX:
            return None
        if size != start + length:
            return None
        return apply_mask(data[start:], data[start - _MASK_BYTES : start]) if self._masked else data[start:]

    def pass_on(self, data: bytes) -> None:
        """Note what somebody else takes in."""
        size, at = len(data), self._left
        while 0 <= at < size:
            at = _end(data, at)
        self._left = at - size if at >= 0 else -1


def _end(data: bytes, at: int) -> int:
    """Return where the frame ends that begins at `at`; -1 if its head is not all there."""
    head = data[at : at + 10]
    if len(head) < 2:
        return -1
    length, size = head[1] & ~_MASKED, 2
    if length >= _TWO_BYTES:
        size = 4 if length == _TWO_BYTES else 10
        if len(head) < size:
            return -1
        length = int.from_bytes(head[2:size])
    return at + size + (_MASK_BYTES if head[1] & _MASKED else 0) + length
