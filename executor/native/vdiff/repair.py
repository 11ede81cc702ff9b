"""Rewrites rows of the target that differ, from the source, in order with the stream that keeps the target equal.

For some rows at a time: lock them on the source against writers, wait until the stream has applied a marker written
after that, and write them to the target in a transaction that holds the stream's record. So nothing about these rows
is on its way, the stream cannot apply anything meanwhile, and a cutover, which stops the stream first, cannot pass.
What writers do after the locks are released reaches the target through the stream, over what was written here. Killed
anywhere, the target's transaction was committed or not; the next comparison finds what is left.
"""

from __future__ import annotations

from collections.abc import Sequence

from executor.crashpoints import reached
from executor.errors import MovetablesError, Refused, TimedOut
from executor.native import sidecar
from executor.native.servers import ServerError, quote
from executor.native.stream.index_zero import write_index_zero, zeros_expression
from executor.native.stream.large import LargeValues
from executor.native.stream.layout import TableLayout
from executor.native.vdiff.confirm import LOCKED_SECONDS, LOCKED_TRIES, Marking, require_running
from executor.native.vdiff.digest import Connect, KeyValues

BATCH = 100
STATEMENT_BYTES = 1_000_000
PACKET_ROOM = 4096
REVERSE = "_reverse"


class Repairer:
    """Repairs rows of the tables of one workflow. `target` makes connections that may write to fenced tables."""

    def __init__(self, source: Connect, target: Connect, marking: Marking, keyspace: str, workflow: str) -> None:
        self._source, self._target = source(), target()
        self._source.execute("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        self._source.execute("SET SESSION innodb_lock_wait_timeout=1")
        self._marking = marking
        self._keyspace, self._workflow = keyspace, workflow

    def close(self) -> None:
        """Closes its connections."""
        self._source.close()
        self._target.close()

    def repair(self, source: TableLayout, target: TableLayout, keys: Sequence[KeyValues]) -> None:
        """Makes the target's rows with `keys` what they are on the source: writes them, or deletes what is not there.

        Raises NotRunning when the stream stops, TimedOut when rows are never free or the stream is never near enough.
        """
        for start in range(0, len(keys), BATCH):
            self._repair(source, target, keys[start : start + BATCH])

    def _repair(self, source: TableLayout, target: TableLayout, keys: Sequence[KeyValues]) -> None:
        for _ in range(LOCKED_TRIES):
            self._marking.catch_up()
            self._source.execute("START TRANSACTION")
            try:
                rows = self._source.query(
                    f"SELECT CAST({source.tuple_expression} AS BINARY) AS r, {zeros_expression(source)} AS zeros "
                    f"FROM {source.qualified} "
                    f"FORCE INDEX ({quote(source.key_name)}) WHERE {source.matching(keys)} LOCK IN SHARE MODE"
                )
                if any(row["r"] is None for row in rows):
                    raise MovetablesError(
                        f"a row of {source.name} is larger as text than max_allowed_packet of the source allows",
                        "on the source: SET GLOBAL max_allowed_packet=1073741824; then resume the VDiff",
                    )
                self._marking.wait_for_marker(LOCKED_SECONDS)
                self._write(target, keys, [(bytes(row["r"]), int(row["zeros"])) for row in rows])
                reached("vdiff.repaired")
                return
            except TimedOut:
                continue
            except ServerError as error:
                if not error.transient:
                    raise
            finally:
                if self._source.open:
                    self._source.execute("ROLLBACK")
        raise TimedOut(
            f"rows of {source.name} are never free to be repaired: their writers do not pause, or the stream is never "
            f"less than {LOCKED_SECONDS:g} s behind",
            "let the stream catch up, or write less; then resume the VDiff",
        )

    def _write(self, target: TableLayout, keys: Sequence[KeyValues], rows: list[tuple[bytes, int]]) -> None:
        with self._target.transaction():
            self._target.query(
                f"SELECT id FROM {sidecar.SCHEMA}.vreplication WHERE keyspace=%s AND workflow=%s FOR UPDATE",
                [self._keyspace, self._workflow],
            )
            record = sidecar.stream(self._target, self._keyspace, self._workflow)
            require_running(record, self._keyspace, self._workflow)
            self._target.execute(f"DELETE FROM {target.qualified} WHERE {target.matching(keys)}")
            # A row of the target that has a unique value of one of these is wrong, or changes soon.
            replace = f"REPLACE INTO {target.qualified} ({target.column_list}) VALUES ".encode()
            largest = int(self._target.value("SELECT @@max_allowed_packet")) - PACKET_ROOM - len(replace)
            plain = [row for row, zeros in rows if not zeros and len(row) <= largest]
            for values in _grouped(plain, min(STATEMENT_BYTES, largest)):
                self._target.execute(replace + values)
            for row, zeros in rows:
                with LargeValues(self._target, f"a row of {target.name}") as large:
                    short = large.shortened(target, row) if len(row) > largest else row
                    if zeros:
                        write_index_zero(self._target, target, replace + short, zeros)
                    elif short is not row:
                        self._target.execute(replace + short)


def require_repairable(workflow: str) -> None:
    """Raises Refused when rows of the target of `workflow` may not be rewritten."""
    if workflow.endswith(REVERSE):
        raise Refused(
            f"{workflow} is a reverse workflow: writes have switched, and nothing is repaired after that",
            "compare without --repair; to repair, switch writes back first",
        )


def _grouped(rows: list[bytes], most: int) -> list[bytes]:
    groups: list[bytes] = []
    for row in rows:
        if groups and len(groups[-1]) + len(row) < most:
            groups[-1] += b"," + row
        else:
            groups.append(row)
    return groups
