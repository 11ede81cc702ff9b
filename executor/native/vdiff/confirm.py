"""Decides whether rows that were seen to differ really do, while both sides change.

A row counts as different only if the target shows it after its stream has applied everything up to a marker that was
committed on the source after the source row was read, and the source row has not changed between its reading and
that. Equal before and after is not enough: a row that goes back and forth between two values would be a false alarm.
So the source row is read in a snapshot, and afterwards a locking read, released at once, asks InnoDB whether any
transaction has touched it since (`innodb_snapshot_isolation`, MariaDB 10.6.18, 10.11.8 and later). A server that
cannot be asked (MySQL) holds the rows that were equal before and after, and only those, under shared locks while one
more marker goes round. A row that keeps changing is finally read under a shared lock of its own. Such locks last until
the stream has passed a marker, which blocks those who write these rows for some milliseconds; they are not taken while
the stream is late.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from executor.errors import MovetablesError, TimedOut
from executor.native import sidecar
from executor.native.binlog.positions import parse
from executor.native.servers import ServerError
from executor.native.stream.layout import TableLayout
from executor.native.vdiff.digest import Connect, KeyValues, RowDigest, rows_of
from planner.cluster import StreamState

BATCH = 500
OPTIMISTIC_TRIES = 4
LOCKED_TRIES = 10
LOCKED_SECONDS = 2.0
"""How long writers of one row may be held up at most."""
POLL_SECONDS = 0.005

LATE_SECONDS = 0.3
"""A stream that needs longer than this from marker to marker is late: locks are avoided then."""
CATCHING_UP_TRIES = 20

CHANGED_ERRNOS = frozenset({1020, 1205, 1213, 3572})
"""Record changed since the snapshot, lock wait (NOWAIT: locked by a writer, its own number on MySQL), deadlock."""
ER_UNKNOWN_SYSTEM_VARIABLE = 1193

Tell = Callable[[str], None]
"""Called all the time with what is being waited for, "" for nothing; raises Interrupted when it should end."""


@dataclass(frozen=True)
class Verdict:
    """What became of one key: the row of each side, None where there is none; equal ones do not differ."""

    identity: str
    source: RowDigest | None
    target: RowDigest | None

    @property
    def same(self) -> bool:
        """True when both sides hold the same bytes, or no row."""
        return (self.source and self.source.hash) == (self.target and self.target.hash)


@dataclass(frozen=True)
class _Look:
    """What one look at a group of keys told: verdicts that stand, keys whose source row changed, and keys that may."""

    settled: list[Verdict]
    changed: list[str] = field(default_factory=list)
    unsure: list[str] = field(default_factory=list)


class NotRunning(MovetablesError):
    """The stream does not run, so the target cannot be waited for."""


def require_running(record: sidecar.StreamRecord | None, keyspace: str, workflow: str) -> sidecar.StreamRecord:
    """`record` if its stream is Running and not frozen. Raises NotRunning with what to type next."""
    name = f"{keyspace}.{workflow}"
    if record is None:
        raise NotRunning(f"there is no workflow {name}", "movetables workflow list shows those that there are")
    if record.frozen:
        raise NotRunning(
            f"workflow {name} is frozen: its writes were switched away, so its target is no longer kept equal",
            f"compare along the reverse workflow, {record.source_keyspace}.{workflow}_reverse",
        )
    if record.state is StreamState.COPYING:
        raise NotRunning(
            f"workflow {name} is still copying; a VDiff needs it to be Running",
            "wait until the copy is done: movetables status",
        )
    if record.state is not StreamState.RUNNING:
        why = f": {record.message}" if record.message else ""
        raise NotRunning(
            f"workflow {name} is {record.state.value}, a VDiff needs it to be Running{why}",
            "start the workflow, then resume the VDiff",
        )
    return record


class Marking:
    """Waits until a stream has applied what its source had written. Not for use by two threads.

    `wait` (seconds) is how long the stream may stand still before waiting for it is given up.
    """

    def __init__(self, source: Connect, target: Connect, keyspace: str, workflow: str, wait: float, tell: Tell) -> None:
        self.source, self._target = source(), target()
        self._keyspace, self._workflow = keyspace, workflow
        self.wait = wait
        self.tell = tell

    def close(self) -> None:
        """Closes its connections."""
        self.source.close()
        self._target.close()

    def wait_for_marker(self, at_most: float | None = None) -> None:
        """Waits until the stream has applied a new marker.

        Raises TimedOut when the stream stood still for `wait` seconds, or it took longer than `at_most`; NotRunning.
        """
        sidecar.write_marker(self.source, self._keyspace, self._workflow, "vdiff")
        wanted = parse(self.source.position())
        seconds = self.wait if at_most is None else min(at_most, self.wait)
        seen, deadline = "", time.monotonic() + seconds
        while True:
            record = require_running(
                sidecar.stream(self._target, self._keyspace, self._workflow), self._keyspace, self._workflow
            )
            if record.pos != seen:
                if parse(record.pos).contains(wanted):
                    return
                seen = record.pos
                if at_most is None:
                    deadline = time.monotonic() + seconds
            if time.monotonic() > deadline:
                raise TimedOut(
                    f"the stream of {self._keyspace}.{self._workflow} did not get from {record.pos or 'its start'} to "
                    f"{wanted} within {seconds:g} s, so what differs cannot be told from what is late",
                    "check that movetables serve runs and that the target keeps up; then resume the VDiff",
                )
            self.tell(f"waiting for the stream to get from {record.pos or 'its start'} to {wanted}")
            time.sleep(POLL_SECONDS)

    def catch_up(self) -> None:
        """Waits until the stream is not late, or for some markers if it always is."""
        for _ in range(CATCHING_UP_TRIES):
            began = time.monotonic()
            self.wait_for_marker()
            if time.monotonic() - began < LATE_SECONDS:
                return


class Confirmer:
    """Gives verdicts on keys of one workflow's tables, whose stream `marking` waits for. Not for use by two threads."""

    def __init__(self, source: Connect, target: Connect, marking: Marking) -> None:
        self._source, self._target = source(), target()
        self._marking = marking
        self._versions = self._ask_for_versions()

    def close(self) -> None:
        """Closes its connections."""
        for connection in (self._source, self._target):
            connection.close()

    def verdicts(
        self,
        source: TableLayout,
        target: TableLayout,
        keys: dict[str, KeyValues],
        samples: Sequence[str] = (),
    ) -> list[Verdict]:
        """One verdict for each of `keys` (identity to key as literals), with `samples` (SQL) of rows that differ.

        Raises NotRunning when the stream stops, TimedOut when it stands still or a row keeps changing.
        """
        names = list(keys)
        verdicts: list[Verdict] = []
        for start in range(0, len(names), BATCH):
            batch = {name: keys[name] for name in names[start : start + BATCH]}
            verdicts += self._settle(source, target, batch, samples)
        return verdicts

    def _settle(
        self, source: TableLayout, target: TableLayout, keys: dict[str, KeyValues], samples: Sequence[str]
    ) -> list[Verdict]:
        settled: list[Verdict] = []
        groups = deque([(keys, 1)])
        while groups:
            group, attempt = groups.popleft()
            self._marking.tell("")
            if attempt > OPTIMISTIC_TRIES:
                settled += [self._locked(source, target, name, key, samples) for name, key in group.items()]
                continue
            look = self._look(source, target, group, samples)
            settled += look.settled
            if look.changed:
                groups.append(({name: group[name] for name in look.changed}, attempt + 1))
            # One row that goes back and forth spoils the answer for all: halve them, so that the others are settled.
            middle = (len(look.unsure) + 1) // 2
            for half in (look.unsure[:middle], look.unsure[middle:]):
                if half:
                    again = attempt + (len(look.unsure) == 1)
                    groups.append(({name: group[name] for name in half}, again))
        return settled

    def _look(
        self, source: TableLayout, target: TableLayout, keys: dict[str, KeyValues], samples: Sequence[str]
    ) -> _Look:
        wanted = list(keys.values())
        self._source.execute("START TRANSACTION WITH CONSISTENT SNAPSHOT")
        try:
            before = rows_of(self._source, source, wanted, sample=samples)
            self._marking.wait_for_marker()
            after = rows_of(self._target, target, wanted, sample=samples)
            verdicts = [Verdict(name, before.get(name), after.get(name)) for name in keys]
            differing = [verdict for verdict in verdicts if not verdict.same]
            if not differing:
                return _Look(verdicts)
            now = rows_of(self._marking.source, source, [keys[verdict.identity] for verdict in differing])
            steady = [v for v in differing if Verdict(v.identity, v.source, now.get(v.identity)).same]
            changed = [v.identity for v in differing if v not in steady]
            settled = [verdict for verdict in verdicts if verdict.same]
            if not steady:
                return _Look(settled, changed)
            unsure = {verdict.identity: keys[verdict.identity] for verdict in steady}
            if not self._versions:
                self._release()
                held = self._held(source, target, unsure, samples)
                return _Look(settled + held, changed, [] if held else list(unsure))
            if self._unchanged(source, list(unsure.values())):
                return _Look(settled + steady, changed)
            return _Look(settled, changed, list(unsure))
        finally:
            self._release()

    def _held(
        self, source: TableLayout, target: TableLayout, keys: dict[str, KeyValues], samples: Sequence[str]
    ) -> list[Verdict]:
        """Verdicts on keys that nobody writes while they are looked at; none when somebody does."""
        self._marking.catch_up()
        self._source.execute("START TRANSACTION")
        try:
            before = rows_of(self._source, source, list(keys.values()), self._source.flavor.share_nowait, samples)
            self._marking.wait_for_marker(LOCKED_SECONDS)
            after = rows_of(self._target, target, list(keys.values()), sample=samples)
            return [Verdict(name, before.get(name), after.get(name)) for name in keys]
        except TimedOut:
            return []
        except ServerError as error:
            if error.errno in CHANGED_ERRNOS:
                return []
            raise
        finally:
            self._release()

    def _unchanged(self, layout: TableLayout, keys: Sequence[KeyValues]) -> bool:
        try:
            rows_of(self._source, layout, keys, self._source.flavor.share_nowait)
        except ServerError as error:
            if error.errno in CHANGED_ERRNOS:
                return False
            raise
        return True

    def _locked(
        self, source: TableLayout, target: TableLayout, name: str, key: KeyValues, samples: Sequence[str]
    ) -> Verdict:
        for _ in range(LOCKED_TRIES):
            self._marking.tell("")
            self._source.execute("START TRANSACTION")
            try:
                before = rows_of(self._source, source, [key], "LOCK IN SHARE MODE", samples)
                self._marking.wait_for_marker(LOCKED_SECONDS)
                after = rows_of(self._target, target, [key], sample=samples)
                return Verdict(name, before.get(name), after.get(name))
            except TimedOut:
                pass
            except ServerError as error:
                if not error.transient:
                    raise
            finally:
                self._release()
            self._marking.wait_for_marker()
        raise TimedOut(
            f"row ({', '.join(key)}) of {source.name} keeps changing, and the stream is never less than "
            f"{LOCKED_SECONDS:g} s behind: whether the row differs cannot be told",
            "let the stream catch up, or write less; then resume the VDiff",
        )

    def _release(self) -> None:
        if self._source.open:
            self._source.execute("ROLLBACK")

    def _ask_for_versions(self) -> bool:
        self._source.execute("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        self._source.execute("SET SESSION innodb_lock_wait_timeout=1")
        try:
            self._source.execute("SET SESSION innodb_snapshot_isolation=ON")
        except ServerError as error:
            if error.errno != ER_UNKNOWN_SYSTEM_VARIABLE:
                raise
            return False
        return True
