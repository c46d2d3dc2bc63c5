"""The decoder of server-sent events."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import ProviderFailure
from service.providers.sse import SseDecoder

LINE = st.text(st.characters(exclude_characters="\r\n", exclude_categories=("Cs",)), max_size=12)


def decode(*chunks: bytes, limit: int = 1000) -> list[bytes]:
    decoder = SseDecoder(limit)
    return [payload for chunk in chunks for payload in decoder.feed(chunk)]


def test_a_payload_comes_with_the_blank_line_that_ends_its_event():
    decoder = SseDecoder()
    assert decoder.feed(b"data: a\n") == []
    assert decoder.feed(b"\n") == [b"a"]


def test_several_events_of_one_read_come_together():
    assert decode(b"data: a\n\ndata:b\n\n") == [b"a", b"b"]


def test_lines_of_data_are_joined_by_a_line_feed():
    assert decode(b"data: a\ndata: b\n\n") == [b"a\nb"]


def test_comments_names_and_ids_say_nothing():
    assert decode(b": keep-alive\n\nevent: x\nid: 1\nretry: 5\ndata: a\n\n") == [b"a"]


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_a_line_ends_with_or_without_a_carriage_return(end: bytes):
    assert decode(b"data: a" + end * 2 + b"data: b" + end + b"data: c" + end * 2) == [b"a", b"b\nc"]


def test_the_limit_is_for_one_event_and_not_for_the_stream():
    assert len(decode(*[b"data: " + b"x" * 300 + b"\n\n"] * 20, limit=400)) == 20
    assert len(decode(b"".join(b"data: " + b"x" * 300 + b"\n\n" for _ in range(20)), limit=400)) == 20
    assert len(decode(*[b": " + b"x" * 300, b"\n: "] * 20, b"\ndata: x\n\n", limit=400)) == 1


def test_only_one_space_after_the_colon_is_taken_away():
    assert decode(b"data:  a\n\n") == [b" a"]


def test_an_event_without_its_blank_line_is_not_told():
    assert decode(b"data: a\n") == []


@pytest.mark.parametrize(
    "chunks", [[b"data: " + b"x" * 2000], [b"x" * 600, b"x" * 600], [b"data: " + b"x" * 600 + b"\n"] * 2]
)
def test_an_event_without_an_end_is_refused_before_it_fills_the_memory(chunks: list[bytes]):
    with pytest.raises(ProviderFailure, match="failed"):
        decode(*chunks)


@given(st.lists(st.lists(LINE, min_size=1, max_size=3), max_size=4), st.sampled_from(["\n", "\r\n"]), st.data())
def test_it_does_not_matter_where_reads_split_the_bytes(events: list[list[str]], end: str, data: st.DataObject):
    text = "".join("".join(f"data: {line}{end}" for line in lines) + end for lines in events).encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
    chunks = [text[start:stop] for start, stop in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    assert decode(*chunks, limit=10_000) == ["\n".join(lines).encode() for lines in events]
