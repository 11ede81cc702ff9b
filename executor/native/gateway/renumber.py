"""Makes the answers of several statements look like one answer: packet numbers and the more-results flag."""

from __future__ import annotations

from executor.native.gateway.packets import MAX_PAYLOAD, STATUS_MORE_RESULTS, read_lenenc


def renumbered(data: bytes, seq: int, *, more: bool, deprecate_eof: bool) -> tuple[bytes, int, bool]:
    """The packets of a whole answer, numbered from `seq`, its last one flagged when `more` answers follow.

    Returns them with the next number, and whether the answer ends in an error.
    """
    out = bytearray(data)
    if not out:  # an error, which is answered separately
        return b"", seq, False
    pos = last = 0
    continued = False
    while pos < len(out):
        length = out[pos] | out[pos + 1] << 8 | out[pos + 2] << 16
        out[pos + 3] = seq & 255
        seq += 1
        if not continued:
            last = pos
        continued = length == MAX_PAYLOAD
        pos += 4 + length
    body = last + 4
    if out[body] == 0xFF:
        return bytes(out), seq, True
    if more:
        at = body + 3
        if out[body] != 0xFE or deprecate_eof:
            _, at = read_lenenc(bytes(out[body : body + 32]), 1)
            _, at = read_lenenc(bytes(out[body : body + 32]), at)
            at += body
        out[at] |= STATUS_MORE_RESULTS
    return bytes(out), seq, False
