"""What holds for every document, however odd."""

from __future__ import annotations

import json
import string
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from planner.diagnostic import DocumentErrors, did_you_mean
from planner.duration import parse_duration
from planner.inventory import Inventory
from planner.loading import load_inventory, load_plan

TESTS = Path(__file__).parents[1]
ENVIRONMENT = (TESTS / "plans" / "invalid" / "environment.yaml").read_text()
GOOD_PLAN = (TESTS.parent / "plans" / "commerce" / "204_switch_writes.yaml").read_text()
NAMES = st.text(string.ascii_lowercase + "_", min_size=5, max_size=12)
PRINTABLE = st.characters(min_codepoint=0x20, max_codepoint=0xFFFD, exclude_categories=("Cs", "Cc", "Zl", "Zp", "Cn"))


def environment() -> Inventory:
    return load_inventory(ENVIRONMENT, "environment.yaml", Path("/environments"))


def outcome(text: str) -> str:
    """The errors of a plan, or its document; anything else that is raised is a bug."""
    try:
        return repr(load_plan(text, "p.yaml", environment(), {}, lambda path: ""))
    except DocumentErrors as errors:
        found = errors
    lines = text.count("\n") + 1
    assert found.diagnostics
    for diagnostic in found.diagnostics:
        assert 1 <= diagnostic.line <= lines + 1
        assert diagnostic.col >= 1
        shown = diagnostic.text + diagnostic.hint + diagnostic.source_line.replace("\t", "")
        assert shown.isprintable()
    return found.render()


@given(st.text(st.sampled_from("ab01: -[]{}\"'#&*!|>%@`,?\n\t~<=.$_\\\x1b\u202e"), max_size=60))
def test_any_text_is_loaded_or_refused_the_same_way_every_time(text: str) -> None:
    assert outcome(text) == outcome(text)


@given(st.integers(0, len(GOOD_PLAN)), st.integers(0, 12), st.text(st.sampled_from("a:0 -[]{}\"'\n\t*&$"), max_size=4))
def test_a_damaged_plan_is_loaded_or_refused_the_same_way_every_time(start: int, length: int, patch: str) -> None:
    text = GOOD_PLAN[:start] + patch + GOOD_PLAN[start + length :]
    assert outcome(text) == outcome(text)


SECRETS = st.text(string.ascii_letters + string.digits + "!$%^&*:,-+=_'\"#{}[] /@", min_size=6, max_size=16)
PLACES = st.sampled_from(
    [
        "credentials: {{user: root, password: {0}}}",
        "credentials:\n  user: root\n  password: {0}\n",
        "credentials:\n  user: root\n  password:\n    {0}\n",
        "credentials:\n  user: root\n  password: |\n    {0}\n",
        "credentials:\n  user: root\n  password: {{env: {0}}}\n",
        "credentials:\n  user: root\n  passwd: {0}\n",
        "vars:\n  db_password: {0}\n",
        'credentials: {{user: root, "password": {0}}}',
    ]
)


@given(
    PLACES,
    SECRETS,
    st.sampled_from(["{0}", "'{0}'", '"{0}"', "{0}: x", "[{0}]", "!{0}", "&{0} x", "*{0}", "{{{0}}}", "{{x: {0}}}"]),
    st.sampled_from(["nonsense: 1\n", "bad: [\n"]),
)
def test_no_part_of_a_password_in_an_inventory_is_shown(place: str, secret: str, form: str, end: str) -> None:
    canary = "Qz7Canary"
    text = f"{ENVIRONMENT}{place.format(form.format(canary + secret + canary))}\n{end}"
    with pytest.raises(DocumentErrors) as caught:
        load_inventory(text, "environment.yaml", Path("/environments"))
    assert canary not in f"{caught.value} {caught.value.diagnostics!r}"


@given(st.text(PRINTABLE, min_size=1, max_size=64))
def test_a_table_may_have_any_name_that_a_server_allows(name: str) -> None:
    assume(name != "*" and not name.endswith(" ") and "${" not in name)
    plan = (
        "version: 1\nname: p\nmoves:\n  m: {source: commerce, target: customer, state: running, tables: "
        f"[{json.dumps(name, ensure_ascii=False)}]}}\n"
    )
    assert load_plan(plan, "p.yaml", environment(), {}, lambda path: "").moves[0].tables == (name,)


@given(st.integers(0, 10**8), st.sampled_from([("ms", 0.001), ("s", 1), ("m", 60), ("h", 3600), ("d", 86400)]))
def test_a_duration_is_its_number_times_its_unit(number: int, unit: tuple[str, float]) -> None:
    assert parse_duration(f"{number}{unit[0]}") == number * unit[1]


@given(st.lists(st.tuples(st.integers(0, 1000), st.sampled_from(["ms", "s", "m", "h", "d"])), min_size=1, max_size=5))
def test_the_parts_of_a_duration_add_up(parts: list[tuple[int, str]]) -> None:
    texts = [f"{number}{unit}" for number, unit in parts]
    assert parse_duration("".join(texts)) == sum(parse_duration(text) or 0 for text in texts)


@given(st.text(max_size=12))
def test_any_text_is_a_duration_of_some_length_or_none(text: str) -> None:
    seconds = parse_duration(text)
    assert seconds is None or seconds >= 0


def test_what_is_no_duration() -> None:
    for text in ("", "5", "s", "-5s", "5 s", "5S", "1e3s", "5s ", "٥s", "1.s", ".5s", "1m-30s"):
        assert parse_duration(text) is None, text


@given(st.lists(NAMES, min_size=1, max_size=8, unique=True), st.data())
def test_a_name_with_one_slip_is_recognised_and_only_known_names_are_suggested(
    known: list[str], data: st.DataObject
) -> None:
    name = data.draw(st.sampled_from(known))
    at = data.draw(st.integers(0, len(name) - 1))
    slip = name[:at] + name[at + 1 :]
    hint = did_you_mean(slip, known)
    assert hint.startswith("did you mean '")
    assert hint.removeprefix("did you mean '").removesuffix("'?") in known


def test_a_letter_that_is_missing_among_many_of_its_kind() -> None:
    assert did_you_mean("___a", ["__a_a"]) == "did you mean '__a_a'?"


def test_upper_case_is_no_different_name() -> None:
    assert did_you_mean("REPLICA", ["primary", "replica"]) == "did you mean 'replica'?"
    assert did_you_mean("x", []) == ""
    assert did_you_mean("x", ["alpha", "beta"], "tables") == "known tables: alpha, beta"
