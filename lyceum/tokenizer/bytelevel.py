"""The 256 characters that stand for bytes in byte-level vocabularies.

Source: Radford et al. 2019 (GPT-2), section 2.2; printable Latin-1 stands for itself, the rest for U+0100 onwards.
"""

PRINTABLE = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
OTHERS = [byte for byte in range(256) if byte not in PRINTABLE]

BYTE_OF = {chr(byte): byte for byte in PRINTABLE} | {chr(0x100 + n): byte for n, byte in enumerate(OTHERS)}


def to_bytes(token: str) -> bytes:
    """The bytes of a vocabulary entry: `to_bytes("Ġa") -> b" a"`; an entry with other characters is taken as text."""
    try:
        return bytes([BYTE_OF[character] for character in token])
    except KeyError:
        return token.encode("utf-8")
