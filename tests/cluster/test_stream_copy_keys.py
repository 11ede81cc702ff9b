"""Keys of every type and any number of columns: the chunks of a copy neither overlap nor leave a row out."""

from __future__ import annotations

from dataclasses import replace

import pytest

from executor.native.servers import quote
from executor.native.stream import chunk_copy, copy
from planner.cluster import StreamState
from tests.cluster import moving
from tests.cluster.moving import DATABASE, SOURCE, TARGET, Moving

pair, move = moving.pair, moving.move

WORDS = (
    "''",
    "'a'",
    "'A '",
    "'ab'",
    "'á'",
    "'Áb'",
    "'b'",
    "'ss'",
    "'z'",
    "'B c'",
    r"'\''",
    r"'x\\'",
    "'%'",
    "'0'",
    "'10'",
    "'9'",
)
BYTES = (
    "''",
    "X'00'",
    "X'0000'",
    "X'61'",
    "X'6100'",
    "X'FF'",
    "X'FF00'",
    "X'5C27'",
    "X'27'",
    "X'C3A1'",
    "X'0A0D1A'",
    "X'2C'",
)
EVERY = {
    "tiny": ("k TINYINT", ("-128", "-1", "0", "1", "127")),
    "small": ("k SMALLINT UNSIGNED", ("0", "1", "32768", "65535")),
    "medium": ("k MEDIUMINT", ("-8388608", "-1", "0", "8388607")),
    "whole": ("k INT UNSIGNED", ("0", "1", "2147483648", "4294967295")),
    "big": ("k BIGINT", ("-9223372036854775808", "-1", "0", "1", "9223372036854775807")),
    "huge": ("k BIGINT UNSIGNED", ("0", "9223372036854775807", "9223372036854775808", "18446744073709551615")),
    "fixed": ("k DECIMAL(65,30)", ("-99999999999999999999999999999999999.9", "-1e-30", "0", "1e-30", "1.5")),
    "float4": ("k FLOAT", ("-3.4e38", "-1e-40", "0", "1e-45", "0.1", "1.0000001", "3.4e38")),
    "float8": ("k DOUBLE", ("-1.7e308", "-5e-324", "0", "0.1", "0.30000000000000004", "1.7e308")),
    "bits": ("k BIT(64)", ("0", "1", "9223372036854775808", "18446744073709551615")),
    "flags": ("k BIT(3)", ("0", "1", "5", "7")),
    "day": ("k DATE", ("'0000-00-00'", "'1000-01-01'", "'2024-00-10'", "'2024-02-29'", "'9999-12-31'")),
    "clock": ("k TIME(6)", ("'-838:59:59'", "'-00:00:00.000001'", "'0'", "'00:00:00.5'", "'838:59:59'")),
    "moment": ("k DATETIME(6)", ("'0000-00-00'", "'2024-01-01 00:00:00.000001'", "'2024-01-01 00:00:00.000002'")),
    "stamp": ("k TIMESTAMP(3)", ("'0000-00-00'", "'1970-01-02'", "'2024-10-27 00:30:00'", "'2024-10-27 01:30:00'")),
    "annum": ("k YEAR", ("0", "1901", "1970", "2155")),
    "choice": ("k ENUM('z','a','M','2','1')", ("1", "2", "3", "4", "5")),
    "several": ("k SET('z','a','M','2')", ("0", "1", "3", "8", "15")),
    "folded": ("k VARCHAR(20) COLLATE utf8mb4_general_ci", WORDS),
    "exact": ("k VARCHAR(20) COLLATE utf8mb4_bin", WORDS),
    "padded": ("k CHAR(10) COLLATE utf8mb4_unicode_ci", WORDS),
    "latin": ("k VARCHAR(20) CHARACTER SET latin1 COLLATE latin1_german2_ci", WORDS),
    "wide": ("k VARCHAR(20) CHARACTER SET utf16", WORDS),
    "chinese": ("k VARCHAR(20) CHARACTER SET gbk", ("'a'", "'B'", "'中'", "'啊'", "'文'", r"'\\'")),
    "octets": ("k VARBINARY(20)", BYTES),
    "filled": ("k BINARY(4)", BYTES),
    "begun": ("k VARCHAR(300), PRIMARY KEY (k, n)", WORDS),
}  # fmt: skip


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two rows to a chunk, and a stall at a marker after every few of them."""
    monkeypatch.setattr(copy, "MAX_ROWS", 2)
    monkeypatch.setattr(copy, "BATCH_SECONDS", 0.0)


def zero_dates(*statements: str) -> tuple[str, ...]:
    return ("SET sql_mode='ALLOW_INVALID_DATES,NO_AUTO_VALUE_ON_ZERO', time_zone='+00:00', NAMES utf8mb4", *statements)


@pytest.mark.usefixtures("small_chunks")
def test_every_type_is_a_key(move: Moving) -> None:
    statements = []
    for name, (column, values) in EVERY.items():
        first, _, key = column.partition(", ")
        kind, _, collation = first.partition(" COLLATE ")
        collation = f" COLLATE {collation}" if collation else ""
        statements.append(
            f"CREATE TABLE of_{name} ({kind}{collation} NOT NULL, n INT NOT NULL, {key or 'PRIMARY KEY (k)'})"
        )
        for number, value in enumerate(values):
            statements.append(f"INSERT IGNORE INTO of_{name} VALUES ({value}, {number})")
    move.tables(*zero_dates(*statements))
    move.running()
    move.settled_equal()


@pytest.mark.usefixtures("small_chunks")
def test_keys_of_many_columns(move: Moving) -> None:
    sixteen = ", ".join(f"c{n} INT NOT NULL" for n in range(16))
    names = ", ".join(f"c{n}" for n in range(16))
    rows = ", ".join("(" + ",".join(str((row >> bit) & 1) for bit in range(16)) + ")" for row in range(0, 65536, 1111))
    heads = ", ".join(f"({row // 30}, '{row % 3}', {row})" for row in range(60))
    move.tables(
        f"CREATE TABLE sixteen ({sixteen}, PRIMARY KEY ({names}))",
        f"INSERT INTO sixteen VALUES {rows}",
        "CREATE TABLE heads (a TINYINT NOT NULL, b VARCHAR(5) COLLATE utf8mb4_general_ci NOT NULL, n INT NOT NULL, "
        "PRIMARY KEY (a, b, n))",
        f"INSERT INTO heads VALUES {heads}",
        "CREATE TABLE falling (a INT NOT NULL, b INT NOT NULL, n INT NOT NULL, PRIMARY KEY (a DESC, b, n DESC))",
        f"INSERT INTO falling VALUES {heads}",
        "CREATE TABLE chosen (a INT NOT NULL, w INT, v INT NOT NULL, UNIQUE KEY null_able (w), UNIQUE KEY two (v, a))",
        "INSERT INTO chosen VALUES " + ", ".join(f"({row}, NULL, {row % 5})" for row in range(40)),
    )  # fmt: skip
    move.running()
    move.on(SOURCE, "DELETE FROM falling WHERE n=7", "UPDATE heads SET a=5 LIMIT 3")
    move.settled_equal()


@pytest.mark.usefixtures("small_chunks")
def test_a_hidden_key(move: Moving, flavor: str) -> None:
    order = "AUTO_INCREMENT PRIMARY KEY INVISIBLE" if flavor == "mysql" else "INVISIBLE AUTO_INCREMENT PRIMARY KEY"
    move.tables(
        f"CREATE TABLE t (id INT NOT NULL {order}, v INT, w INT INVISIBLE)",
        "INSERT INTO t (v, w) VALUES " + ", ".join(f"({row}, {row})" for row in range(20)),
    )
    move.running()
    move.on(SOURCE, "INSERT INTO t (v) VALUES (100)", "UPDATE t SET w=7 WHERE v=3")
    move.settled_equal()


@pytest.mark.usefixtures("small_chunks")
def test_a_stored_generated_column_in_the_key(move: Moving, flavor: str) -> None:
    if flavor == "mariadb":
        pytest.skip("MariaDB allows no generated column in a primary key")
    move.tables(
        "CREATE TABLE t (n INT NOT NULL, a VARCHAR(5) NOT NULL, b VARCHAR(9) AS (CONCAT(a, '!')) STORED NOT NULL, "
        "PRIMARY KEY (b, n))",
        "INSERT INTO t (n, a) VALUES " + ", ".join(f"({row}, '{row % 7}')" for row in range(40)),
    )
    move.running()
    move.on(
        SOURCE,
        "DELETE FROM t WHERE n=7",
        "UPDATE t SET n=n+100 WHERE n<5",
        "UPDATE t SET a='9' WHERE n=9",
        "INSERT INTO t (n, a) VALUES (7, 'x')",
        "UPDATE t SET a='y' WHERE n=7",
    )
    move.settled_equal()


LARGE = ("b LONGBLOB", "t LONGTEXT", "l LONGTEXT CHARACTER SET latin1", "u LONGTEXT CHARACTER SET utf16")


def test_rows_of_sixteen_megabytes_between_tiny_ones(move: Moving, flavor: str) -> None:
    """Each goes as one statement, of packets that are large enough."""
    size = 16 << 20
    packet = 1 << 30
    variables = ("max_allowed_packet", "local_infile")
    with move.source() as source, move.target() as target:
        before = [
            [server.value(f"SELECT @@global.{variable}") for variable in variables] for server in (source, target)
        ]
        try:
            for server in (source, target):
                server.execute(f"SET GLOBAL max_allowed_packet={packet}, GLOBAL local_infile=0")
            move.tables("CREATE TABLE r (id INT PRIMARY KEY, v INT, " + ", ".join(LARGE) + ")")
            move.on(
                SOURCE,
                "INSERT INTO r (id, v, t) VALUES " + ", ".join(f"({row}, {row}, 'x')" for row in range(8)),
                rf"UPDATE r SET b=REPEAT(X'00275C0AFF', {size // 5}) WHERE id=6",
                rf"UPDATE r SET t=REPEAT('\'\\á€😀', {size // 11}) WHERE id=4",
                f"UPDATE r SET l=REPEAT('é', {size // 8}), u=REPEAT('a', 100) WHERE id=5",
                f"UPDATE r SET u=REPEAT('é', {size // 8}), b=NULL WHERE id=1",
            )
            move.running()
            assert digest(move, SOURCE) == digest(move, TARGET)
        finally:
            for server, values in zip((source, target), before, strict=True):
                for variable, value in zip(variables, values, strict=True):
                    server.execute(f"SET GLOBAL {variable}={value}")


def digest(move: Moving, keyspace: str) -> list[dict[str, object]]:
    names = [definition.split()[0] for definition in LARGE]
    hashes = ", ".join(f"IFNULL(SHA2({name}, 256), 'NULL') AS {name}" for name in names)
    with move.pair.connect(keyspace) as connection:
        table = f"{quote(DATABASE[keyspace])}.r"
        return connection.query(f"SELECT id, v, {hashes} FROM {table} ORDER BY id")


def test_a_chunk_that_the_target_cannot_load_is_inserted(move: Moving, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever LOAD DATA does not take as it is goes by INSERT, whose error is the one that shows."""
    original = chunk_copy.load_form

    def broken(*args: object) -> object:
        form = original(*args)  # type: ignore[arg-type]
        return form and replace(form, statement=form.statement.replace("`v`", "`v`,`v`"))

    monkeypatch.setattr(chunk_copy, "load_form", broken)
    with move.target() as target:
        before = target.value("SELECT @@global.local_infile")
        target.execute("SET GLOBAL local_infile=1")
        try:
            move.tables("CREATE TABLE t (id INT PRIMARY KEY, v INT)", "INSERT INTO t VALUES (1, 1), (2, NULL)")
            move.running()
        finally:
            target.execute(f"SET GLOBAL local_infile={before}")
    move.settled_equal()
    assert move.state() is StreamState.RUNNING
