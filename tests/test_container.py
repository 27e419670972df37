"""The frame: round trips, and a named error for every cut, flip and lie."""

import contextlib
import io
import subprocess
import sys
import zlib
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tactic_codec.container import (
    DEFAULT_MAX_PIXELS,
    MAX_PAYLOAD,
    MAX_SIDE,
    STREAM_PIXELS_PER_BYTE,
    Frame,
    StreamBudget,
    default_max_pixels,
    pack,
    parse,
    read_frame,
)
from tactic_codec.errors import (
    ChecksumMismatch,
    Corrupt,
    FormatError,
    LimitExceeded,
    NotATacFile,
    ReservedFlags,
    Truncated,
    UnknownSection,
    UnsupportedVersion,
)

FRAME = Frame(b"\x0a\x0b\x0c\x0d", 3, 300, 200, b"payload")
HEAD = bytes.fromhex("89 54 41 10 0a 0b 0c 0d 03")


def sealed(body: bytes) -> bytes:
    """Return a body with the checksum that a well-meaning writer would give it."""
    return body + zlib.crc32(body).to_bytes(4, "little")


class Pipe(io.RawIOBase):
    """A stream that returns at most three bytes at a time."""

    def __init__(self, data: bytes) -> None:
        self._inner = io.BytesIO(data)
        self.largest_request = 0

    def read(self, size: int = -1) -> bytes:
        self.largest_request = max(self.largest_request, size)
        return self._inner.read(min(size, 3))


sections = st.dictionaries(st.integers(128, 255), st.binary(max_size=400), max_size=3)
plain_frames = st.builds(
    Frame,
    fingerprint=st.binary(min_size=4, max_size=4),
    level=st.integers(1, 255),
    width=st.integers(1, MAX_SIDE),
    height=st.integers(1, DEFAULT_MAX_PIXELS // MAX_SIDE),
    payload=st.binary(max_size=3000).map(lambda data: data.rstrip(b"\0")),
    sections=sections.map(lambda found: tuple(sorted(found.items()))),
)


def scaled(frame: Frame, width: int, height: int) -> Frame:
    size = min(width, frame.width), min(height, frame.height)
    return frame if size == (frame.width, frame.height) else replace(frame, scaled_to=size)


side = st.integers(1, MAX_SIDE)
frames = plain_frames | st.builds(scaled, plain_frames, side, side)


@settings(derandomize=True, max_examples=200, deadline=None)
@given(frames)
def test_round_trip(frame: Frame) -> None:
    data = pack(frame)
    assert parse(data, max_pixels=DEFAULT_MAX_PIXELS) == frame
    assert frame.size == len(data) == frame.header_bytes + len(frame.payload)
    assert frame.pixels == frame.width * frame.height


@settings(derandomize=True, max_examples=500, deadline=None)
@given(st.binary(max_size=40), st.booleans())
def test_any_bytes_are_a_frame_or_a_named_error(tail: bytes, with_head: bool) -> None:
    data = sealed(HEAD + tail) if with_head else tail
    with contextlib.suppress(FormatError, LimitExceeded):
        assert pack(parse(data)) == data  # a frame has one spelling


@settings(derandomize=True, max_examples=500, deadline=None)
@given(st.integers(0, 3), st.lists(st.integers(1, 12), max_size=6), st.binary(max_size=20))
def test_any_flagged_bytes_are_a_frame_or_a_named_error(
    flags: int, numbers: list[int], tail: bytes
) -> None:
    head = HEAD[:3] + bytes([0x10 | flags]) + HEAD[4:]
    data = sealed(head + bytes(numbers) + tail)
    with contextlib.suppress(FormatError, LimitExceeded):
        assert pack(parse(data)) == data


@pytest.mark.parametrize("length", [0, 7, 240, 241, 2287, 2288, 67_823, 67_824, 1 << 24])
def test_payload_length_on_each_side_of_every_varint_form(length: int) -> None:
    frame = Frame(FRAME.fingerprint, 1, 1, 1, b"\xff" * length)
    assert parse(pack(frame)) == frame


@pytest.mark.parametrize("side", [1, 240, 241, 496, 497, 2287, 2288, MAX_SIDE])
def test_sides_on_each_side_of_every_varint_form(side: int) -> None:
    assert parse(pack(Frame(FRAME.fingerprint, 1, side, 1, b""))).width == side
    assert parse(pack(Frame(FRAME.fingerprint, 1, 1, side, b""))).height == side


@pytest.mark.parametrize("first", range(241, 252))
def test_an_integer_has_one_spelling(first: int) -> None:
    """The forms overlap: 241 and a byte of zero mean 240, which has a form of one byte."""
    count = {249: 2, 250: 3, 251: 4}.get(first, 1)
    spellings = {(0).to_bytes(count, "big"), (1).to_bytes(count, "big"), b"\xff" * count}
    spellings |= {number.to_bytes(count, "big") for number in (67_823, 67_824) if count > 2}
    for rest in spellings:
        data = sealed(HEAD + bytes([first]) + rest + b"\x01\x00")
        try:
            frame = parse(data)
        except Corrupt:
            continue
        assert pack(frame) == data
    with pytest.raises(Corrupt, match="240 is written in 2 bytes; it needs fewer"):
        parse(sealed(HEAD + b"\xf1\x00\x01\x00"))


@pytest.mark.parametrize(
    "sections",
    [((127, b""), (128, b"")), ((255, b"x" * 300),), ((200, b""), (201, bytes(3000)))],
)
def test_sections_are_kept(sections: tuple[tuple[int, bytes], ...]) -> None:
    frame = replace(FRAME, sections=sections)
    if sections[0][0] < 128:
        with pytest.raises(UnknownSection):
            parse(pack(frame))
    else:
        assert parse(pack(frame)) == frame


def test_overhead_of_a_small_photograph_is_at_most_18_bytes() -> None:
    assert Frame(b"abcd", 255, 224, 224, b"\xff" * 67_823).header_bytes == 18
    assert Frame(b"abcd", 255, 224, 224, b"").header_bytes == 16
    assert Frame(b"abcd", 255, 224, 224, b"\xff" * 67_823, (223, 224)).header_bytes == 20


def test_every_cut_is_truncated() -> None:
    data = pack(FRAME)
    for length in range(len(data)):
        with pytest.raises(Truncated):
            parse(data[:length])


@pytest.mark.parametrize("payload", [b"", b"payload", b"\1" * 300])
def test_every_flipped_bit_is_refused(payload: bytes) -> None:
    data = pack(Frame(FRAME.fingerprint, 3, 300, 200, payload))
    for bit in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises((FormatError, LimitExceeded)):
            parse(bytes(damaged))


ONE_BY_ONE = b"\x01\x01"
SCALED_HEAD = HEAD[:3] + b"\x11" + HEAD[4:]
SECTIONS_HEAD = HEAD[:3] + b"\x12" + HEAD[4:]


@pytest.mark.parametrize(
    ("data", "error", "text"),
    [
        (b"", Truncated, "empty"),
        (b"\x89PNG\r\n\x1a\n", NotATacFile, "89 50 4e"),
        (b"T", NotATacFile, "54"),
        (b"\x89TA", Truncated, "version"),
        (b"\x89TA\x20", UnsupportedVersion, "version 2"),
        (b"\x89TA\x00", UnsupportedVersion, "version 0"),
        (b"\x89TA\x14", ReservedFlags, "0x4"),
        (b"\x89TA\x18", ReservedFlags, "0x8"),
        (b"\x89TA\x10abcd\x00", Corrupt, "level 0"),
        (HEAD + b"\x00", Corrupt, "width 0"),
        (SCALED_HEAD + b"\x09\x09\x00", Corrupt, "coded width 0; expected 1 to 9"),
        (SCALED_HEAD + b"\x09\x09\x01\x00", Corrupt, "coded height 0"),
        (SCALED_HEAD + b"\x09\x07\x0a", Corrupt, "coded width 10; expected 1 to 9"),
        (SCALED_HEAD + b"\x09\x07\x09\x08", Corrupt, "coded height 8; expected 1 to 7"),
        (SCALED_HEAD + b"\x09\x07\x09\x07", Corrupt, "coded size 9 x 7 is the picture's"),
        (SCALED_HEAD + b"\xf9\xf7\x0f\xf9\xf7\x0f\x01\x01", LimitExceeded, "65535 x 65535"),
        (SECTIONS_HEAD + ONE_BY_ONE + b"\x00\x00", Corrupt, "sections of 0 bytes"),
        (SECTIONS_HEAD + ONE_BY_ONE + b"\x01\x80\x00", Corrupt, "sections of 1 bytes"),
        (SECTIONS_HEAD + ONE_BY_ONE + b"\xfb\xff\xff\xff\xff", Corrupt, "of 4294967295 bytes"),
        (SECTIONS_HEAD + ONE_BY_ONE + b"\xfa\xff\xff\xff", Truncated, "0 of 16777215"),
        (sealed(SECTIONS_HEAD + ONE_BY_ONE + b"\x02\x80\x01\x00"), Corrupt, "inside the section"),
        (
            sealed(SECTIONS_HEAD + ONE_BY_ONE + b"\x03\x80\x00\x81\x00"),
            Corrupt,
            "inside the length",
        ),
        (sealed(SECTIONS_HEAD + ONE_BY_ONE + b"\x02\x00\x00\x00"), Corrupt, "type 0 is reserved"),
        (sealed(SECTIONS_HEAD + ONE_BY_ONE + b"\x04\x80\x00\x80\x00\x00"), Corrupt, "of 128"),
        (sealed(SECTIONS_HEAD + ONE_BY_ONE + b"\x03\x80\xf1\x00\x00"), Corrupt, "needs fewer"),
        (sealed(SECTIONS_HEAD + ONE_BY_ONE + b"\x02\x7f\x00\x00"), UnknownSection, "type 127"),
        (HEAD + b"\x01\x00", Corrupt, "height 0"),
        (HEAD + b"\xfa\x01\x00\x00", Corrupt, "width 65536"),
        (HEAD + b"\xfb\xff\xff\xff\xff", Corrupt, "width 4294967295"),
        (HEAD + b"\xfa\x00\x00\x01", Corrupt, "fewer"),
        (HEAD + b"\xfa\x01\x08\xef", Corrupt, "67823 is written in 4 bytes"),
        (HEAD + b"\xfb\x00\xff\xff\xff", Corrupt, "16777215 is written in 5 bytes"),
        (HEAD + b"\xfc", Corrupt, "252"),
        (HEAD + b"\xff", Corrupt, "255"),
        (HEAD + b"\xf9\xf7\x0f\xf9\xf7\x0f", LimitExceeded, "65535 x 65535"),
        (HEAD + ONE_BY_ONE + b"\xfb\xff\xff\xff\xff", Truncated, "0 of 4294967295"),
        (HEAD + ONE_BY_ONE + b"\x01z", Truncated, "checksum"),
        (HEAD + ONE_BY_ONE + b"\x01z\0\0\0\0", ChecksumMismatch, "damaged"),
        (sealed(HEAD + ONE_BY_ONE + b"\x02z\0"), Corrupt, "zero byte"),
        (sealed(HEAD + ONE_BY_ONE + b"\x02zz") + b"\n", Corrupt, "1 bytes follow"),
        (pack(FRAME) + pack(FRAME), Corrupt, "follow"),
    ],
)
def test_refusals(data: bytes, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text) as caught:
        parse(data)
    assert type(caught.value) is error


def test_the_limit_on_pixels_is_the_callers() -> None:
    data = pack(FRAME)
    assert parse(data, max_pixels=FRAME.pixels) == FRAME
    with pytest.raises(LimitExceeded, match="300 x 200 is 60000 pixels; the limit is 59999"):
        parse(data, max_pixels=FRAME.pixels - 1)


@pytest.mark.parametrize(
    ("payload_bytes", "limit"),
    [
        (0, 1 << 22),
        (1 << 16, 1 << 22),
        ((1 << 16) + 1, (1 << 22) + 1024),
        (90_000, 29_245_440),  # more than any camera's 24 megapixels
        (1 << 20, 1 << 28),
        ((1 << 32) - 1, 1 << 28),
    ],
)
def test_few_bytes_are_few_pixels_by_default(payload_bytes: int, limit: int) -> None:
    assert default_max_pixels(payload_bytes) == limit


def test_the_default_limit_tells_how_to_raise_it() -> None:
    just, above = (Frame(b"abcd", 1, 4096, height, b"x") for height in (1024, 1025))
    assert parse(pack(just)) == just
    with pytest.raises(LimitExceeded) as caught:
        parse(pack(above))
    assert str(caught.value) == (
        "4096 x 1025 is 4198400 pixels; the limit is 4194304 for 1 bytes of payload: if you trust "
        "the source, raise it with --max-pixels 4198400, in Python max_pixels=4198400"
    )
    assert parse(pack(above), max_pixels=4198400) == above


def test_limits_cover_both_sizes() -> None:
    """A scaled frame costs what the network makes, and an eighth of what the filter makes."""
    just, above = (Frame(b"abcd", 1, 8192, 4094, b"x", (64, height)) for height in (32, 33))
    assert just.counted_pixels == 1 << 22
    assert parse(pack(just)) == just
    with pytest.raises(LimitExceeded) as caught:
        parse(pack(above))
    assert str(caught.value) == (
        "8192 x 4094, coded at 64 x 33, is 33538048 pixels, counted as 4194368; the limit is "
        "4194304 for 1 bytes of payload: if you trust the source, raise it with --max-pixels "
        "33538048, in Python max_pixels=33538048"
    )
    assert parse(pack(above), max_pixels=above.pixels) == above
    with pytest.raises(LimitExceeded, match="the limit is 33538047: "):
        parse(pack(above), max_pixels=above.pixels - 1)
    # However many bytes it has, and however small it was coded.
    huge = Frame(b"abcd", 1, 65_535, 65_535, b"x" * (1 << 20), (1, 1))
    with pytest.raises(LimitExceeded, match="the limit is 268435456"):
        parse(pack(huge))


def test_a_stream_of_scaled_frames_is_bounded() -> None:
    tiny_and_huge = Frame(b"abcd", 1, 8192, 4094, b"", (64, 64))
    assert spend(StreamBudget(), tiny_and_huge, 65_536 // tiny_and_huge.size) == 16


def test_a_length_that_is_only_claimed_earns_nothing() -> None:
    head = pack(Frame(b"abcd", 1, 16384, 16384, b""))[:-5]
    with pytest.raises(Truncated):
        parse(head + b"\xfb\xff\xff\xff\xff" + b"x" * 60_000)


@pytest.mark.parametrize(
    "frame",
    [
        Frame(b"abc", 1, 1, 1, b""),
        Frame(b"abcd", 0, 1, 1, b""),
        Frame(b"abcd", 256, 1, 1, b""),
        Frame(b"abcd", 1, 0, 1, b""),
        Frame(b"abcd", 1, 1, MAX_SIDE + 1, b""),
        Frame(b"abcd", 1, 1, 1, b"a\0"),
        Frame(b"abcd", 1, 9, 9, b"", (9, 9)),
        Frame(b"abcd", 1, 9, 9, b"", (10, 9)),
        Frame(b"abcd", 1, 9, 9, b"", (0, 9)),
        Frame(b"abcd", 1, 9, 9, b"", None, ((0, b""),)),
        Frame(b"abcd", 1, 9, 9, b"", None, ((256, b""),)),
        Frame(b"abcd", 1, 9, 9, b"", None, ((200, b""), (200, b""))),
        Frame(b"abcd", 1, 9, 9, b"", None, ((201, b""), (200, b""))),
        Frame(b"abcd", 1, 9, 9, b"", None, ((200, bytes(1 << 24)),)),
    ],
)
def test_pack_refuses_what_parse_would(frame: Frame) -> None:
    with pytest.raises(ValueError, match="cannot pack"):
        pack(frame)


def test_a_stream_of_frames_through_a_pipe() -> None:
    others = [Frame(b"wxyz", level, 9, level, b"p" * level) for level in (1, 2, 250)]
    pipe = Pipe(b"".join(map(pack, others)))
    assert [read_frame(pipe) for _ in range(4)] == [*others, None]  # type: ignore[arg-type]


def spend(budget: StreamBudget, frame: Frame, count: int) -> int:
    """How many of as many frames the budget has for."""
    for number in range(count):
        try:
            budget.spend(frame)
        except LimitExceeded:
            return number
    return count


def test_a_short_stream_has_the_pixels_of_a_few_large_pictures() -> None:
    empty = Frame(b"abcd", 1, 2048, 2048, b"")  # the largest that one frame may be
    assert empty.pixels == default_max_pixels(0)
    # 67 megapixels that every stream has; what the bytes of a frame earn is a hundredth of one.
    assert spend(StreamBudget(), empty, 65_536 // empty.size) == 16


@pytest.mark.parametrize(
    "frame",
    [
        Frame(b"abcd", 1, 256, 256, b""),
        Frame(b"abcd", 1, 224, 224, b"four"),  # an all but empty one, as of a camera in the dark
        Frame(b"abcd", 1, 224, 224, b"x" * 300),
        Frame(b"abcd", 1, 1920, 1080, b"x" * 1901),  # the fewest that a bundled model makes: grey
        Frame(b"abcd", 8, 6000, 4000, b"x" * 90_000),
    ],
    ids=lambda frame: f"{frame.width} x {frame.height} in {frame.size}",
)
def test_the_frames_of_a_camera_never_run_out(frame: Frame) -> None:
    """In hours, too: each earns no less than it spends."""
    assert spend(StreamBudget(), frame, 2000) == 2000
    assert frame.pixels <= STREAM_PIXELS_PER_BYTE * frame.size


def test_bytes_of_earlier_frames_pay_for_plain_ones() -> None:
    budget = StreamBudget()
    plain, rich = Frame(b"abcd", 1, 1920, 1080, b""), Frame(b"abcd", 1, 1920, 1080, b"x" * 13_000)
    assert spend(budget, rich, 10) == 10
    assert spend(budget, plain, 1000) == 289


@settings(derandomize=True, max_examples=200, deadline=None)
@given(frames)
def test_a_frame_that_may_be_read_alone_may_begin_a_stream(frame: Frame) -> None:
    if frame.counted_pixels <= default_max_pixels(len(frame.payload)):
        assert spend(StreamBudget(), frame, 1) == 1


def test_a_stream_that_is_refused_tells_how_it_is_read() -> None:
    budget = StreamBudget()
    budget.spend(Frame(b"abcd", 1, 4096, 2048, b""))
    with pytest.raises(LimitExceeded) as caught:
        while True:
            budget.spend(Frame(b"abcd", 1, 2048, 2048, b""))
    assert str(caught.value) == (
        "with it the stream has 71303168 pixels in 289 bytes; the limit is 68292608 for so few: "
        "if you trust the source, decode it with --max-pixels 8388608, which then bounds single "
        "frames only"
    )


def test_reading_goes_on_behind_a_damaged_frame() -> None:
    damaged = bytearray(pack(FRAME))
    damaged[-6] ^= 1  # in the payload
    stream = io.BytesIO(bytes(damaged) + pack(FRAME))
    with pytest.raises(ChecksumMismatch):
        read_frame(stream)
    assert read_frame(stream) == FRAME
    assert read_frame(stream) is None


def test_reading_goes_on_behind_an_unknown_section() -> None:
    stream = io.BytesIO(pack(replace(FRAME, sections=((9, b"new"),))) + pack(FRAME))
    with pytest.raises(UnknownSection):
        read_frame(stream)
    assert read_frame(stream) == FRAME


def test_a_stream_that_ends_inside_a_frame() -> None:
    stream = io.BytesIO(pack(FRAME) + pack(FRAME)[:-1])
    assert read_frame(stream) == FRAME
    with pytest.raises(Truncated, match="checksum: 3 of 4"):
        read_frame(stream)


def test_a_declared_length_is_not_requested_at_once() -> None:
    pipe = Pipe(HEAD + ONE_BY_ONE + b"\xfb" + MAX_PAYLOAD.to_bytes(4, "big") + b"little")
    with pytest.raises(Truncated, match="6 of"):
        read_frame(pipe)  # type: ignore[arg-type]
    assert pipe.largest_request <= 1 << 20


def test_the_container_imports_the_standard_library_only() -> None:
    code = (
        "import sys, tactic_codec.container; "
        "print(*{'numpy', 'constriction', 'torch', 'PIL'} & set(sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == ""
