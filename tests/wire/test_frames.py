"""What is read without the library is what the library reads, however the bytes are cut."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode
from websockets.protocol import Protocol, Side, State

from ebbgate.wire.frames import Cutter, text_frame

LENGTHS = [0, 1, 124, 125, 126, 127, 255, 256, 65_535, 65_536, 70_000]


def _read(data: bytes, reader: Side) -> list[Frame]:
    protocol = Protocol(reader, state=State.OPEN)
    protocol.receive_data(data)
    assert protocol.parser_exc is None
    return [event for event in protocol.events_received() if isinstance(event, Frame)]


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("masked", [False, True])
def test_a_text_is_one_frame_that_the_library_reads(length: int, masked: bool) -> None:
    text = bytes(97 + place % 26 for place in range(length))
    (frame,) = _read(text_frame(text, masked=masked), Side.SERVER if masked else Side.CLIENT)
    assert (frame.opcode, bytes(frame.data), frame.fin) == (Opcode.TEXT, text, True)


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("masked", [False, True])
def test_a_frame_that_comes_alone_is_read_unless_it_is_long(length: int, masked: bool) -> None:
    text = bytes(97 + place % 26 for place in range(length))
    assert Cutter(masked=masked).text(text_frame(text, masked=masked)) == (text if length < 1 << 16 else None)


@pytest.mark.parametrize("masked", [False, True])
def test_a_frame_masked_the_wrong_way_is_left_to_the_library(masked: bool) -> None:
    for length in LENGTHS:
        frame = text_frame(b"a" * length, masked=not masked)
        for size in (len(frame), *range(1, min(15, len(frame)))):
            assert Cutter(masked=masked).text(frame[:size]) is None


@pytest.mark.parametrize("masked", [False, True])
def test_the_beginning_of_a_frame_is_left_to_the_library(masked: bool) -> None:
    for length in LENGTHS:
        frame = text_frame(b"a" * length, masked=masked)
        for size in (len(frame) - 1, *range(1, min(15, len(frame)))):
            assert Cutter(masked=masked).text(frame[:size]) is None


frames = st.builds(
    Frame,
    st.sampled_from([Opcode.TEXT, Opcode.TEXT, Opcode.BINARY, Opcode.CONT]),
    st.one_of(st.binary(max_size=10), st.sampled_from(LENGTHS).map(bytes)),
    st.sampled_from([True, True, False]),
) | st.builds(Frame, st.sampled_from([Opcode.PING, Opcode.PONG]), st.binary(max_size=125))


@given(st.lists(frames, max_size=6), st.booleans(), st.data())
def test_only_whole_texts_are_taken_wherever_the_bytes_are_cut(
    said: list[Frame], masked: bool, data: st.DataObject
) -> None:
    wire = [frame.serialize(mask=masked) for frame in said]
    stream = b"".join(wire)
    ends = [sum(map(len, wire[: place + 1])) for place in range(len(wire))]
    anywhere = st.integers(0, len(stream))
    cuts = sorted(
        data.draw(st.lists(st.sampled_from(ends) | anywhere if ends else anywhere, max_size=8), label="cuts")
    )
    cutter, frame_at = Cutter(masked=masked), dict(zip([0, *ends], said, strict=False))
    for begin, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        if begin == end:
            continue
        text = cutter.text(stream[begin:end])
        if text is not None:
            assert end in ends
            assert (frame_at[begin].opcode, frame_at[begin].fin) == (Opcode.TEXT, True)
            assert text == bytes(frame_at[begin].data)
        else:
            cutter.pass_on(stream[begin:end])


def test_a_text_is_taken_again_after_others_have_ended() -> None:
    cutter, text = Cutter(masked=True), text_frame(b"[]", masked=True)
    long = text_frame(bytes(70_000), masked=True)
    for piece in (text + text, long[:20], long[20:]):
        assert cutter.text(piece) is None
        cutter.pass_on(piece)
    assert cutter.text(text) == b"[]"


def test_after_half_a_head_nothing_is_taken_any_more() -> None:
    cutter, text = Cutter(masked=True), text_frame(b"[]", masked=True)
    cutter.pass_on(text[:1])
    cutter.pass_on(text[1:])
    assert cutter.text(text) is None
