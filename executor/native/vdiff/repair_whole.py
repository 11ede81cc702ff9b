"""Rewrites what differs of a table that is compared as a whole: one without a key, or with a key ordered differently.

Rows are known by the hash of all they hold (`normal.py`). Of every hash that one side has more of, the target's rows
are deleted and the source's are inserted, as many as there are: so duplicates are counted right, and doing it again
changes nothing. That is only exact of one moment (`moment.py`), and so the stream is held from that moment on, by the
lock of its record, until what was written is committed. Writers of the source wait for a marker's way through the
stream only; the stream waits for some scans of the table on both sides, and then goes on from that moment. Neither can
a cutover, which stops the stream first, pass meanwhile. Killed anywhere, the target's transaction was committed or not.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from executor.crashpoints import reached
from executor.errors import MovetablesError
from executor.native import sidecar
from executor.native.servers import Connection, ServerError
from executor.native.stream.index_zero import write_index_zero, zeros_expression
from executor.native.stream.large import LargeValues
from executor.native.stream.layout import TableLayout
from executor.native.vdiff.confirm import Marking, require_running
from executor.native.vdiff.digest import Connect
from executor.native.vdiff.moment import LOCK_SECONDS, same_moment
from executor.native.vdiff.normal import row_hash
from executor.native.vdiff.pairs import Pair

MOST_KINDS = 50_000
"""So many different rows are rewritten at once, in one transaction."""
KINDS_PER_SCAN = 10_000
STATEMENT_BYTES = 1_000_000
PACKET_ROOM = 4096
ER_DUP_ENTRY = 1062


class WholeRepairer:
    """Repairs tables of one workflow as a whole. `target` makes connections that may write to fenced tables."""

    def __init__(self, source: Connect, target: Connect, marking: Marking, keyspace: str, workflow: str) -> None:
        self._source, self._target = source, target
        self._marking = marking
        self._keyspace, self._workflow = keyspace, workflow

    def repair(self, pair: Pair, hashes: Sequence[str]) -> None:
        """Gives the target as many rows of each of `hashes` (of `row_hash`) as the source has.

        Raises MovetablesError when there are too many, or a row of the source is a duplicate for the target; TimedOut
        when there is no moment to begin at; NotRunning, ServerError.
        """
        if len(hashes) > MOST_KINDS:
            raise MovetablesError(
                f"more than {MOST_KINDS} different rows of {pair.source.name} differ, too many to be rewritten at once",
                "cancel the move and copy the table again; or compare without --repair",
            )
        scans = [hashes[start : start + KINDS_PER_SCAN] for start in range(0, len(hashes), KINDS_PER_SCAN)]
        with same_moment(self._source, self._target, pair.source, self._marking, self._hold) as (source, target):
            for chosen in scans:
                self._marking.tell(f"repairing {pair.source.name}")
                target.execute(f"DELETE FROM {pair.target.qualified} WHERE {_among(pair.target, chosen)}")
            into = f"INSERT INTO {pair.target.qualified} ({pair.target.column_list}) VALUES ".encode()
            largest = int(target.value("SELECT @@max_allowed_packet")) - PACKET_ROOM - len(into)
            for chosen in scans:
                for values, zeros in _values(source, pair.source, chosen, min(STATEMENT_BYTES, largest)):
                    self._marking.tell(f"repairing {pair.source.name}")
                    with LargeValues(target, f"a row of {pair.target.name}") as large:
                        short = large.shortened(pair.target, values) if len(values) > largest else values
                        _insert(target, pair.target, into + short, zeros)
            reached("vdiff.repairing")
            target.execute("COMMIT")
        reached("vdiff.repaired")

    def _hold(self, target: Connection) -> None:
        """Begins the transaction on the target, and keeps the stream from applying anything until it ends."""
        target.execute(f"SET SESSION innodb_lock_wait_timeout={LOCK_SECONDS}")
        target.execute("START TRANSACTION")
        target.query(
            f"SELECT id FROM {sidecar.SCHEMA}.vreplication WHERE keyspace=%s AND workflow=%s FOR UPDATE",
            [self._keyspace, self._workflow],
        )
        record = sidecar.stream(target, self._keyspace, self._workflow)
        require_running(record, self._keyspace, self._workflow)


def _insert(target: Connection, layout: TableLayout, statement: bytes, zeros: int) -> None:
    try:
        if zeros:
            write_index_zero(target, layout, statement, zeros)
        else:
            target.execute(statement)
    except ServerError as error:
        if error.errno != ER_DUP_ENTRY:
            raise
        raise MovetablesError(
            f"{layout.name} cannot be repaired: the target takes a row of the source for a duplicate of another "
            f"that the source has too: {error.message}",
            "compare the unique keys and their collations in SHOW CREATE TABLE of both sides",
        ) from error


def _among(layout: TableLayout, hashes: Sequence[str]) -> str:
    return f"{row_hash(layout.columns)} IN ({','.join(repr(name) for name in hashes)})"


def _values(source: Connection, layout: TableLayout, hashes: Sequence[str], most: int) -> Iterator[tuple[bytes, int]]:
    """The rows with one of `hashes` as they arrive: (tuples with commas, how many indexes 0 of an ENUM are in them).

    Of at most `most` bytes, but for a row that is larger by itself.
    """
    piece: list[bytes] = []
    size = 0
    sql = f"SELECT CAST({layout.tuple_expression} AS BINARY),{zeros_expression(layout)} FROM {layout.qualified}"
    with source.stream(f"{sql} WHERE {_among(layout, hashes)}") as rows:
        for text, zeros in rows:
            if text is None:
                raise MovetablesError(
                    f"a row of {layout.name} is larger as text than max_allowed_packet of {source.login.name} allows",
                    "SET GLOBAL max_allowed_packet=1073741824 on source and target",
                )
            if int(zeros):
                yield text, int(zeros)
                continue
            if piece and size + len(text) > most:
                yield b",".join(piece), 0
                piece, size = [], 0
            piece.append(text)
            size += len(text) + 1
    if piece:
        yield b",".join(piece), 0
