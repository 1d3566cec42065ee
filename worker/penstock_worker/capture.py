"""What a child writes, within bounds. Pure: bytes come in pieces as the pipe gives them.

`Result` keeps all of it up to a bound, and past that nothing; `Tail` keeps the last part; `Lines`
gives whole lines, and cuts those that are too long. None of them ever holds more than its bound and
one piece.
"""


class Result:
    """Standard output. `too_large` once there was more than `bytes_max`; what was kept is gone."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._kept = bytearray()
        self.too_large = False

    def feed(self, piece: bytes) -> None:
        """Take the next piece."""
        if self.too_large:
            return
        if len(self._kept) + len(piece) > self._bytes_max:
            self.too_large = True
            self._kept = bytearray()
        else:
            self._kept += piece

    def content(self) -> bytes:
        """All of it; nothing if it was too large."""
        return bytes(self._kept)


class Tail:
    """The last `characters_max` characters, as text."""

    def __init__(self, characters_max: int) -> None:
        self._characters_max = characters_max
        # UTF-8 has at most 4 bytes for a character.
        self._bytes_max = 4 * characters_max
        self._kept = bytearray()
        self._cut = False

    def feed(self, piece: bytes) -> None:
        """Take the next piece."""
        self._kept += piece
        over = len(self._kept) - self._bytes_max
        if over > 0:
            del self._kept[:over]
            self._cut = True

    def text(self) -> str:
        """The last part, without the end of line; `…` in front if there was more."""
        text = self._kept.decode("utf-8", "backslashreplace").rstrip()
        if self._cut or len(text) > self._characters_max:
            return "…" + text[-self._characters_max :]
        return text


class Lines:
    """Text in lines of at most `bytes_max` bytes; longer ones come in parts."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._rest = b""

    def feed(self, piece: bytes) -> list[str]:
        """Take the next piece; the lines that are whole now. Empty ones are left out."""
        *whole, rest = (self._rest + piece).split(b"\n")
        parts = [part for line in whole for part in self._parts(line)]
        *long, self._rest = self._parts(rest) or [b""]
        return [_text(part) for part in parts + long if part.strip()]

    def end(self) -> list[str]:
        """What came after the last end of line."""
        rest, self._rest = self._rest, b""
        return [_text(rest)] if rest.strip() else []

    def _parts(self, line: bytes) -> list[bytes]:
        return [
            line[start : start + self._bytes_max] for start in range(0, len(line), self._bytes_max)
        ]


def _text(line: bytes) -> str:
    """One line, whatever is in it: no control character of it moves a cursor or ends a line."""
    text = line.decode("utf-8", "backslashreplace").rstrip()
    return "".join(
        character if character.isprintable() or character == "\t" else ascii(character)[1:-1]
        for character in text
    )
