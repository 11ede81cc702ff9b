"""What a VDiff may be asked for. Names and defaults follow Vitess's `VDiff create`."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from executor.errors import Usage
from planner.cluster import TabletType


@dataclass(frozen=True)
class VDiffOptions:
    """Options of one VDiff; they are kept with its record, so that resuming it compares in the same way.

    `limit` ends each table after so many source rows, None compares all. `max_extra_rows_to_compare` bounds how many
    rows that one side alone has are looked at again, to pair those with the same key, in tables that are compared
    without ranges of their key. `max_report_sample_rows` bounds the samples of each kind of difference, 0 keeps all of
    them. `row_diff_column_truncate_at` is in characters, below 1 is never. `only_pks` leaves all but the key columns
    out of the samples. `update_table_stats` runs ANALYZE TABLE on the target first, for a better estimate of the time
    left. `filtered_replication_wait_time` (seconds) is how long the stream may stand still while a difference waits
    for it. `auto_retry` goes on by itself after a server failed. `max_diff_duration` (seconds, 0 for no limit) is how
    long a snapshot may be held. `tablet_types` says in order of preference which tablets are read; what differs there
    is always looked at again on the primaries.
    """

    limit: int | None = None
    max_extra_rows_to_compare: int = 1000
    max_report_sample_rows: int = 10
    row_diff_column_truncate_at: int = 128
    only_pks: bool = False
    update_table_stats: bool = False
    filtered_replication_wait_time: float = 30.0
    auto_retry: bool = True
    max_diff_duration: float = 0.0
    tablet_types: tuple[str, ...] = (TabletType.PRIMARY.value,)
    repair: bool = False

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 1:
            raise Usage("--limit must be a positive value")
        if self.max_extra_rows_to_compare < 0:
            raise Usage("--max-extra-rows-to-compare must not be a negative value")
        if self.max_report_sample_rows < 0:
            raise Usage("--max-report-sample-rows must not be a negative value")
        if self.filtered_replication_wait_time <= 0:
            raise Usage("--filtered-replication-wait-time must be a positive value")
        if self.max_diff_duration < 0:
            raise Usage("--max-diff-duration must not be a negative value")
        known = [kind.value for kind in TabletType]
        for name in self.tablet_types:
            if name not in known:
                raise Usage(
                    f"--tablet-types: {name} is no tablet type, valid ones are {', '.join(known)}",
                    "for example: --tablet-types RDONLY,REPLICA,PRIMARY",
                )
        if not self.tablet_types:
            raise Usage("--tablet-types names no tablet type", "for example: --tablet-types RDONLY,REPLICA,PRIMARY")

    def to_json(self) -> str:
        """As kept in the sidecar."""
        return json.dumps(asdict(self), sort_keys=True)


def from_json(text: str) -> VDiffOptions:
    """The options of a kept VDiff."""
    kept = json.loads(text)
    return VDiffOptions(**{**kept, "tablet_types": tuple(kept.get("tablet_types", ("PRIMARY",)))})
