"""The report of a VDiff has Vitess's shape in JSON and text."""

from __future__ import annotations

import json
from dataclasses import replace
from uuid import uuid4

import jsonschema
import pytest

import schemas
from executor.errors import Usage
from executor.native.vdiff import show
from executor.native.vdiff.digest import readable
from executor.native.vdiff.options import VDiffOptions, from_json
from executor.native.vdiff.report import TableReport, VDiffReport, table_report
from executor.native.vdiff.samples import shortened
from planner.cluster import Column

NOW = 1_700_000_000.0
UUID = "4b3f9b7e-6b4c-4b59-9d1b-0c2f2f4d9a11"
CLEAN = TableReport("corder", "completed", 5, 5, 5, updated_at=NOW)
DIFFERENT = TableReport(
    "customer",
    "completed",
    table_rows=10,
    rows_compared=10,
    matching=7,
    mismatched=1,
    extra_source=1,
    extra_target=1,
    mismatch_samples=(({"id": "1", "email": "a"}, {"id": "1", "email": "A"}),),
    extra_source_samples=({"id": "2", "email": "é"},),
    extra_target_samples=({"id": "3", "email": "NULL"},),
    updated_at=NOW,
)
COMPLETED = VDiffReport("customer", "commerce2customer", UUID, "completed", (CLEAN,), NOW - 10, NOW)


def parsed(report: VDiffReport, now: float = NOW, verbose: bool = False) -> dict[str, object]:
    document: dict[str, object] = json.loads(report.to_json(now, verbose))
    jsonschema.validate(document, schemas.load("vdiff"))
    return document


def test_a_clean_report_leaves_the_tables_out_unless_verbose() -> None:
    assert list(parsed(COMPLETED)) == [
        "Workflow",
        "Keyspace",
        "State",
        "UUID",
        "RowsCompared",
        "HasMismatch",
        "Shards",
        "StartedAt",
        "CompletedAt",
    ]
    assert list(parsed(COMPLETED, verbose=True))[-2:] == ["TableSummary", "Reports"]


def test_differences_are_told_by_table_and_shard_in_the_order_of_vitess() -> None:
    document = parsed(replace(COMPLETED, tables=(DIFFERENT, CLEAN)))
    assert document["HasMismatch"] is True
    assert document["RowsCompared"] == 15
    reports = document["Reports"]
    assert isinstance(reports, dict)
    assert list(reports) == ["corder", "customer"]
    assert list(reports["customer"]["0"]) == [
        "TableName",
        "ProcessedRows",
        "MatchingRows",
        "MismatchedRows",
        "ExtraRowsSource",
        "ExtraRowsTarget",
        "ExtraRowsSourceSample",
        "ExtraRowsTargetSample",
        "MismatchedRowsSample",
    ]
    assert reports["customer"]["0"]["MismatchedRowsSample"] == [
        {"Source": {"Row": {"email": "a", "id": "1"}}, "Target": {"Row": {"email": "A", "id": "1"}}}
    ]


def test_json_is_indented_with_tabs_and_keeps_letters() -> None:
    text = replace(COMPLETED, tables=(DIFFERENT,)).to_json(NOW)
    assert text.startswith('{\n\t"Workflow": "commerce2customer",\n')
    assert '"email": "é"' in text


def test_progress_is_shown_only_while_it_runs_and_an_eta_from_one_percent_on() -> None:
    table = TableReport("t", "started", table_rows=1000, rows_compared=250, matching=250)
    running = VDiffReport("k", "w", UUID, "started", (table,), started_at=NOW - 100)
    assert parsed(running)["Progress"] == {"Percentage": 25.0, "ETA": "2023-11-14 22:18:20"}
    few = replace(running, tables=(replace(table, rows_compared=5, matching=5),))
    assert parsed(few)["Progress"] == {"Percentage": 0.5}
    assert parsed(replace(running, tables=(replace(table, table_rows=0),)))["Progress"] == {"Percentage": 0.0}
    assert "Progress" not in parsed(COMPLETED)
    assert "Progress:     25.00%, ETA: 2023-11-14 22:18:20" in running.to_text(NOW)


def test_text_summary_is_worded_as_in_vitess() -> None:
    assert replace(COMPLETED, tables=(DIFFERENT,)).to_text(NOW).splitlines() == [
        f"VDiff Summary for customer.commerce2customer ({UUID})",
        "State:        completed",
        "RowsCompared: 10",
        "HasMismatch:  true",
        "StartedAt:    2023-11-14 22:13:10",
        "CompletedAt:  2023-11-14 22:13:20",
        "Table customer:",
        "\tState:            completed",
        "\tProcessedRows:    10",
        "\tMatchingRows:     7",
        "\tMismatchedRows:   1",
        "\tExtraRowsSource:  1",
        "\tExtraRowsTarget:  1",
        "",
        'Use "--format=json" for more detailed output.',
    ]


def test_the_verbose_summary_shows_the_rows_of_the_samples() -> None:
    lines = replace(COMPLETED, tables=(DIFFERENT, CLEAN)).to_text(NOW, verbose=True).splitlines()
    assert lines[lines.index("\tExtraRowsTarget:  1") + 1 : -2] == [
        '\tdiffers, source:  email="a", id="1"',
        '\t         target:  email="A", id="1"',
        '\tonly in source:   email="é", id="2"',
        '\tonly in target:   email="NULL", id="3"',
    ]


def test_an_error_is_told_with_its_shard() -> None:
    failed = replace(COMPLETED, state="error", completed_at=None, error="stream stopped")
    assert parsed(failed)["Errors"] == {"0": "stream stopped"}
    assert "Error: (shard 0) stream stopped" in failed.to_text(NOW)


@pytest.mark.parametrize("table", [CLEAN, DIFFERENT, TableReport("t")])
def test_a_kept_table_is_read_as_it_was(table: TableReport) -> None:
    kept = json.dumps(table.counters())
    assert table_report(table.table, table.state, table.table_rows, kept, table.updated_at) == table


def test_options_are_kept_as_they_were() -> None:
    options = VDiffOptions(limit=5, only_pks=True, filtered_replication_wait_time=1.5)
    assert from_json(options.to_json()) == options


def test_a_uuid_or_a_known_word_is_wanted() -> None:
    assert show.checked_uuid("last", ("all", "last")) == "last"
    some = str(uuid4())
    assert show.checked_uuid(some.upper(), ()) == some
    wanted = r"invalid argument provided \(x\), valid arguments are 'all', 'last', or a valid UUID"
    with pytest.raises(Usage, match=wanted):
        show.checked_uuid("x", ("all", "last"))
    with pytest.raises(Usage, match=r"invalid argument provided \(x\), valid arguments are 'all' or a valid UUID"):
        show.checked_uuid("x", ("all",))
    with pytest.raises(Usage, match="invalid UUID provided: x"):
        show.checked_uuid("x", ())


def test_the_list_is_a_grid() -> None:
    lines = show.list_text([COMPLETED]).splitlines()
    assert lines[0] == lines[2] == lines[4]
    assert lines[1].split("|")[1].strip() == "UUID"
    assert lines[3].split("|")[-2].strip() == "completed"
    assert json.loads(show.list_json([COMPLETED])) == [
        {
            "UUID": UUID,
            "Workflow": "commerce2customer",
            "Keyspace": "customer",
            "Shard": "0",
            "State": "completed",
        }
    ]


def test_repaired_rows_are_told_only_where_there_are_some() -> None:
    assert "RepairedRows" not in json.dumps(parsed(COMPLETED, verbose=True))
    repaired = replace(COMPLETED, tables=(replace(CLEAN, repaired=2),))
    document = parsed(repaired)
    assert document["HasMismatch"] is False
    assert '"RepairedRows": 2' in json.dumps(document["Reports"])
    assert '"RepairedRows": 2' in json.dumps(document["TableSummary"])
    assert "\tRepairedRows:     2" in repaired.to_text(NOW).splitlines()
    assert table_report("corder", "completed", 5, json.dumps(replace(CLEAN, repaired=2).counters()), NOW).repaired == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_extra_rows_to_compare": -1}, "--max-extra-rows-to-compare must not be a negative value"),
        ({"max_diff_duration": -1.0}, "--max-diff-duration must not be a negative value"),
        ({"tablet_types": ("MASTER",)}, "MASTER is no tablet type, valid ones are PRIMARY, REPLICA, RDONLY"),
        ({"tablet_types": ()}, "--tablet-types names no tablet type"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(Usage, match=message):
        VDiffOptions(**options)  # type: ignore[arg-type]


def test_options_of_an_older_record_are_read() -> None:
    assert from_json('{"limit": 5, "only_pks": true}') == VDiffOptions(limit=5, only_pks=True)
    given = VDiffOptions(tablet_types=("RDONLY", "PRIMARY"), repair=True, auto_retry=False)
    assert from_json(given.to_json()) == given


@pytest.mark.parametrize(
    ("data_type", "shown", "said"),
    [
        ("varbinary", "0x616C69636540646F6D61696E2E636F6D", "alice@domain.com"),
        ("blob", "0x6100", "0x6100"),
        ("blob", "0xFF", "0xFF"),
        ("blob", "0x", ""),
        ("varchar", "0x61", "0x61"),
    ],
)
def test_bytes_that_people_can_read_are_shown_as_text(data_type: str, shown: str, said: str) -> None:
    assert readable(Column("c", data_type, data_type), shown) == said


def test_bytes_that_were_cut_within_a_character_are_shown_as_text() -> None:
    blob = Column("c", "blob", "blob")
    cut = "0x" + ("é" * 200).encode()[:35].hex()
    assert readable(blob, cut, 8) == "é" * 17
    assert readable(blob, cut, 0) == cut
    assert shortened(blob, cut, VDiffOptions(row_diff_column_truncate_at=8), False) == "é" * 8 + "...[TRUNCATED]"
