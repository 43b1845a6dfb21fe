"""The few data types of SSH that keys and signatures are made of (RFC 4251, section 5), read from untrusted bytes."""

from __future__ import annotations

#: The longest number that anything here has: an RSA signature of 16,384 bits, and its sign.
_MAX_NUMBER = 16384 // 8 + 1


class WireError(ValueError):
    """Bytes that aren't what they should be, with what is wrong about them."""


class Reader:
    """Takes one value after the other off a blob; whatever lengths it claims, nothing beyond its end is read."""

    def __init__(self, blob: bytes) -> None:
        self._blob = blob
        self._at = 0

    def take(self, count: int) -> bytes:
        """Give the next bytes; raises `WireError` if there are fewer."""
        left = len(self._blob) - self._at
        if count > left:
            raise WireError(f"it breaks off: {count} bytes are announced where {left} are left")
        taken = self._blob[self._at : self._at + count]
        self._at += count
        return taken

    def byte(self) -> int:
        """Give a byte."""
        return self.take(1)[0]

    def uint32(self) -> int:
        """Give a uint32."""
        return int.from_bytes(self.take(4), "big")

    def string(self) -> bytes:
        """Give a string, which may hold any bytes."""
        return self.take(self.uint32())

    def name(self) -> str:
        """Give a string that names something: ASCII, printable, at most 64 characters (RFC 4251, section 6)."""
        text = self.string()
        if not 0 < len(text) <= 64 or not all(0x21 <= each <= 0x7E for each in text):
            raise WireError("where a name should stand is none")
        return text.decode("ascii")

    def number(self) -> int:
        """Give an mpint that is positive and written as briefly as it can be."""
        text = self.string()
        if (
            not text
            or len(text) > _MAX_NUMBER
            or text[0] & 0x80
            or (text[0] == 0 and (len(text) == 1 or text[1] < 0x80))
        ):
            raise WireError("where a positive number should stand is none")
        return int.from_bytes(text, "big")

    def end(self) -> None:
        """See to it that nothing is left; raises `WireError`."""
        if left := len(self._blob) - self._at:
            raise WireError(f"{left} bytes too many stand at its end")


def string(value: bytes) -> bytes:
    """Write a string."""
    return len(value).to_bytes(4, "big") + value
