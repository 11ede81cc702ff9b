"""What a VDiff may be asked for. Names and defaults follow Vitess's `VDiff create`."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from executor.errors import Usage


@dataclass(frozen=True)
class VDiffOptions:
    """Options of one VDiff; they are kept with its record, so that resuming it compares in the same way.

    `limit` ends each table after so many source rows, None compares all. `max_report_sample_rows` bounds the samples
    of each kind of difference, 0 keeps all of them. `row_diff_column_truncate_at` is in characters, below 1 is never.
    `only_pks` leaves all but the key columns out of the samples. `update_table_stats` runs ANALYZE TABLE on the target
    first, for a better estimate of the time left. `filtered_replication_wait_time` (seconds) is how long the stream
    may stand still while a difference waits for it.
    """

    limit: int | None = None
    max_report_sample_rows: int = 10
    row_diff_column_truncate_at: int = 128
    only_pks: bool = False
    update_table_stats: bool = False
    filtered_replication_wait_time: float = 30.0

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 1:
            raise Usage("--limit must be a positive value")
        if self.max_report_sample_rows < 0:
            raise Usage("--max-report-sample-rows must not be a negative value")
        if self.filtered_replication_wait_time <= 0:
            raise Usage("--filtered-replication-wait-time must be a positive value")

    def to_json(self) -> str:
        """As kept in the sidecar."""
        return json.dumps(asdict(self), sort_keys=True)


def from_json(text: str) -> VDiffOptions:
    """The options of a kept VDiff."""
    return VDiffOptions(**json.loads(text))
