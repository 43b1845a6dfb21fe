"""Small changes of inputs, the same ones for the same seed: what `make test` tries beside the corpus itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator, Sequence

#: What parsers stumble over: ends, signs, edges of widths, what isn't text, and what looks like structure.
_PIECES = (
    *(b"\0", b"\xff", b"\xfe\xff", b"\xef\xbb\xbf", b"\r\n", b"\r", b"\n", b"\t", b" ", b"\xc2\x85", b"\xed\xa0\x80"),
    *(b"-1", b"0", b"1e999", b"NaN", b"9" * 30, b"4294967296", b"18446744073709551616", b"\x7f\xff\xff\xff"),
    *(b"[" * 40, b"{", b"}", b"]", b": ", b"- ", b"&a ", b"*a", b"<<", b"!!x ", b"|\n", b"#", b";", b'"', b"'"),
    *(b"\x04\x00", b"\x00\x80", b"\xff\xff", b"%00", b"%FF", b"::", b"/0", b"../", b"null", b"~", b"\\ud800"),
)


def mutated(corpus: Sequence[bytes], number: int, randomly: random.Random, largest: int) -> Iterator[bytes]:
    """Give so many changed inputs, none longer than `largest`."""
    for _ in range(number):
        data = randomly.choice(corpus)
        for _ in range(randomly.randint(1, 4)):
            data = _changed(data, corpus, randomly)
        yield data[:largest]


def _changed(data: bytes, corpus: Sequence[bytes], randomly: random.Random) -> bytes:
    """Cut out, put in, put in place of, repeat, overwrite, go on as another input, or turn one bit over."""
    at = randomly.randint(0, len(data))
    end = min(len(data), at + randomly.choice((1, 1, 2, 4, 16, 64)))
    part, other = data[at:end], randomly.choice(corpus)
    turned = bytes([part[0] ^ 1 << randomly.randrange(8)]) + part[1:] if part else b""
    pieces = (
        b"",
        randomly.choice(_PIECES) + part,
        randomly.choice(_PIECES),
        part * randomly.choice((2, 3, 20)),
        randomly.randbytes(len(part)),
        turned,
    )
    kind = randomly.randint(0, len(pieces))
    return data[:at] + (other[randomly.randint(0, len(other)) :] if kind == len(pieces) else pieces[kind] + data[end:])
