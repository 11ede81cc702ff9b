"""Every supported type at its limits arrives in every bit: copied before the stream follows, and followed after."""

from __future__ import annotations

import pytest

from tests.cluster import moving
from tests.cluster.conftest import Pairing
from tests.cluster.moving import SOURCE, TARGET, Moving, contents

pytestmark = pytest.mark.servers("mariadb", "mysql", "mariadb-mysql", "mysql-mariadb")

pair, move = moving.pair, moving.move

INTEGERS = {"TINYINT": 8, "SMALLINT": 16, "MEDIUMINT": 24, "INT": 32, "BIGINT": 64}
LAX = "SET sql_mode='ALLOW_INVALID_DATES,NO_AUTO_VALUE_ON_ZERO', time_zone='+00:00'"
ALL_BYTES = f"X'{bytes(range(256)).hex()}'"

VALUES: dict[str, tuple[str, ...]] = {
    **{f"{name} SIGNED": (f"-{2 ** (n - 1)}", "-1", "0", str(2 ** (n - 1) - 1)) for name, n in INTEGERS.items()},
    **{f"{name} UNSIGNED": ("0", str(2 ** (n - 1)), str(2**n - 1)) for name, n in INTEGERS.items()},
    "INT(10) ZEROFILL": ("0", "42", "4294967295"),
    "BOOL": ("0", "1", "-128"),
    "DECIMAL(65,30)": (f"{'9' * 35}.{'9' * 30}", f"-{'9' * 35}.{'9' * 30}", "0", "-0.000000000000000000000000000001"),
    "DECIMAL(65,0) UNSIGNED": ("9" * 65, "0"),
    "DECIMAL(9,9)": ("0.999999999", "-0.000000001"),
    "FLOAT": ("0e0", "-0e0", "0.1", "3.4028234e38", "-3.4028234e38", "1e-45", "1.17549435e-38", "16777217", "1e-40"),
    "DOUBLE": ("0e0", "-0e0", "0.1", "1.7976931348623157e308", "4.9e-324", "1e-320", "-2.2250738585072014e-308",
               "0.30000000000000004", "9007199254740993", "123456789.123456789"),
    "FLOAT(7,3)": ("-9999.999", "0.001"),
    "DOUBLE(20,5)": ("123456789012345.12345", "-0.00001"),
    "BIT(1)": ("b'0'", "b'1'"),
    "BIT(9)": ("b'100000001'", "b'0'"),
    "BIT(64)": ("~0", f"{2**63}", "1"),
    "YEAR": ("0", "1901", "2155", "1970"),
    "DATE": ("'0000-00-00'", "'2024-00-10'", "'0000-06-01'", "'2024-02-31'", "'1000-01-01'", "'9999-12-31'"),
    "DATETIME": ("'0000-00-00 00:00:00'", "'9999-12-31 23:59:59'", "'2024-00-00 10:00:00'"),
    "DATETIME(6)": ("'9999-12-31 23:59:59.999999'", "'2024-05-05 00:00:00.000001'", "'0000-00-00'"),
    "DATETIME(3)": ("'2024-05-05 00:00:00.010'", "'2024-05-05 00:00:00.999'"),
    "TIMESTAMP NULL": ("'1970-01-01 00:00:01'", "'2038-01-19 03:14:07'", "'0000-00-00'", "'2024-03-31 01:30:00'"),
    "TIMESTAMP(6) NULL": ("'1970-01-01 00:00:01.000001'", "'2038-01-19 03:14:07.999999'", "'2024-10-27 01:30:00.1'"),
    "TIME": ("'-838:59:59'", "'838:59:59'", "'00:00:00'", "'-00:00:01'"),
    "TIME(6)": ("'-838:59:59.999999'", "'838:59:59.999999'", "'-00:00:00.000001'", "'12:00:00.5'"),
    "ENUM('','a','b''c','é','\\\\')": ("''", "'b''c'", "'é'", "5"),
    "SET('a','b''c','é','x')": ("''", "'a'", "'a,x'", "15"),
    "CHAR(10)": ("''", "'a  '", "' a'", "'😀'", r"'\0\n\r\Z\\\'\"%'"),
    "VARCHAR(300)": ("''", "'a  '", r"'\0\n\r\Z\\\'\"%_'", "'NULL'", "'😀ßé'", "REPEAT('é',300)"),
    "CHAR(10) CHARACTER SET latin1": (r"_latin1 X'80819FA0FF5C27'", "'a '", "''"),
    "VARCHAR(50) CHARACTER SET latin1": (r"_latin1 X'C383C2A9'", r"_latin1 X'00'"),
    "VARCHAR(50) CHARACTER SET utf16": (r"_utf16 X'D83DDE00'", "'a'", "''", r"'\\'"),
    "VARCHAR(50) CHARACTER SET utf32": ("'😀a'", "''"),
    "VARCHAR(50) CHARACTER SET ucs2": ("'éa'", "''"),
    "VARCHAR(50) CHARACTER SET gbk": (r"_gbk X'815C'", r"_gbk X'BF5C27'", "'中文'"),
    "VARCHAR(50) CHARACTER SET sjis": (r"_sjis X'955C'", r"_sjis X'835C5C'"),
    "VARCHAR(50) CHARACTER SET swe7": ("'a'", r"_swe7 X'5B5C5D'"),
    "VARCHAR(50) CHARACTER SET utf8mb3": ("'é中'", "''"),
    "VARCHAR(50) CHARACTER SET ascii": (r"'\\\''", "'~'"),
    "VARCHAR(50) CHARACTER SET cp1251": ("'Привет'",),
    "TINYTEXT": ("''", "REPEAT('x',255)"),
    "TEXT": ("''", "REPEAT('\\\\',60000)"),
    "MEDIUMTEXT": ("''", "REPEAT('é',70000)"),
    "LONGTEXT CHARACTER SET latin1": ("''", f"CONVERT({ALL_BYTES} USING latin1)"),
    "JSON": ("'null'", "'{\"b\": 1, \"a\": [1e25, -0.0, \"\\\\u00e9\"]}'", "'[]'"),
    "BINARY(16)": ("X''", "X'00'", "X'6100'", "REPEAT(X'FF',16)"),
    "VARBINARY(300)": ("X''", "X'00'", "X'6100'", ALL_BYTES),
    "TINYBLOB": ("X''", "REPEAT(X'00',255)"),
    "BLOB": ("X''", ALL_BYTES, "REPEAT(X'5C27',30000)"),
    "MEDIUMBLOB": ("X''", "REPEAT(X'00FF',40000)"),
    "LONGBLOB": ("X''", ALL_BYTES),
    "GEOMETRY": ("ST_GeomFromText('POINT(1 2)')", "ST_GeomFromText('GEOMETRYCOLLECTION EMPTY')"),
    "LINESTRING": ("ST_GeomFromText('LINESTRING(0 0,1.5 -1e300)', 0)", "ST_GeomFromText('LINESTRING(1 2,3 4)', 4326)"),
}  # fmt: skip


OF_MYSQL: dict[str, tuple[str, ...]] = {
    "VECTOR(4)": ("X'0000803F00000040'", "X'00000000'", "X'6162636461626364'"),
    "JSON": (
        "JSON_OBJECT('a', DATE'2024-02-29', 'list', JSON_ARRAY(1.50, TIME'10:11:12', NULL, X'FF00', 5000000000))",
        "JSON_EXTRACT(JSON_ARRAY(CAST(1 AS UNSIGNED)), '$[0]')",
        "'[1, 1.0, -0.0, 1e25, 4.9e-324, 18446744073709551615, \"é\"]'",
        "(SELECT JSON_ARRAY(v) FROM JSON_TABLE('[5]', '$[*]' COLUMNS (v BIT(9) PATH '$')) AS j)",
    ),
}
OF_MARIADB = {
    "UUID": ("'123e4567-e89b-12d3-a456-426655440000'", "'ffffffff-ffff-7fff-bfff-ffffffffff00'"),
    "INET4": ("'0.0.0.0'", "'255.255.255.255'"),
    "INET6": ("'::'", "'2001:db8::ff00:42:8329'", "'::ffff:192.0.2.128'"),
    "TEXT COMPRESSED": ("''", "REPEAT('é', 1000)", "'a'"),
    "VARBINARY(3000) COMPRESSED": ("''", "REPEAT(X'00FF', 1000)"),
}


def values_of(pairing: Pairing) -> dict[str, tuple[str, ...]]:
    """VALUES, without what the target lacks: MariaDB -0.0, MySQL the last second of MariaDB's longest span."""
    if pairing == Pairing("mysql", "mariadb"):
        kept = {kind: tuple(v for v in values if v != "-0e0") for kind, values in VALUES.items()}
        return {kind: values for kind, values in kept.items() if kind != "JSON"}
    if pairing == Pairing("mariadb", "mysql"):
        return VALUES | {"TIME(6)": ("'-838:59:59'", "'838:59:59'", "'-00:00:00.000001'", "'12:00:00.5'")}
    return VALUES


def inserts(types: dict[str, tuple[str, ...]], first: int) -> list[str]:
    """For every type a table with all its values, once more as NULL, and then changed in another column."""
    statements = []
    for i, values in enumerate(types.values()):
        rows = ",".join(f"({first + n},{value},NULL)" for n, value in enumerate((*values, "NULL")))
        statements.append(f"INSERT INTO t{i} VALUES {rows}")
    return statements


def test_every_type_at_its_limits(move: Moving, pairing: Pairing) -> None:
    types = values_of(pairing) | (OF_MYSQL if pairing == Pairing("mysql", "mysql") else {})
    types |= OF_MARIADB if pairing == Pairing("mariadb", "mariadb") else {}
    move.tables(*(f"CREATE TABLE t{i} (id INT PRIMARY KEY, v {kind}, n INT)" for i, kind in enumerate(types)))
    move.on(SOURCE, LAX, *inserts(types, 0))
    move.running()
    move.on(SOURCE, LAX, *inserts(types, 100), *(f"UPDATE t{i} SET n=1 WHERE id % 2" for i in range(len(types))))
    move.settled_equal()
    with move.target() as target:
        for i, (kind, values) in enumerate(types.items()):
            rows = contents(target, TARGET, f"t{i}")
            assert len(rows) == 2 * len(values) + 2, kind


@pytest.mark.servers("mariadb-mysql")
def test_a_span_of_time_that_mysql_has_not_is_an_error_and_not_another_value(move: Moving) -> None:
    move.tables("CREATE TABLE t (id INT PRIMARY KEY, v TIME(6))")
    move.on(SOURCE, "INSERT INTO t VALUES (1, '-838:59:59.999999')")
    move.created()
    move.run_streams()
    assert "Incorrect time value" in move.wait_for_error()


ZERO = "SET sql_mode='NO_AUTO_VALUE_ON_ZERO'"
ENUMS = "e ENUM('a','','0','b'), `f'é` ENUM('x','y') CHARACTER SET utf16 NOT NULL, v VARCHAR(20) NOT NULL"
KEYS = ("PRIMARY KEY (id)", "PRIMARY KEY (`f'é`, id)", "KEY (id)")


def test_an_enum_value_that_is_no_member_stays_its_index_zero(move: Moving, monkeypatch: pytest.MonkeyPatch) -> None:
    """It shows as the empty string, and is none of the members: not '', not '0'. Also in a key, and without a key."""
    monkeypatch.setattr("executor.native.stream.index_zero.MOST_WARNINGS", 20)
    monkeypatch.setattr("executor.native.stream.keyless.MOST_WARNINGS", 20)
    move.tables(*(f"CREATE TABLE t{i} (id INT NOT NULL, {ENUMS}, {key})" for i, key in enumerate(KEYS)))
    first = "(1,'no','no','1'), (2,'','x','(1,0,0)'), (3,'0','y','3'), (4,NULL,'no','4'), (6,'b','x','6')"
    later = "(11,'no','no','11'), (12,'','x','0,0),(1'), (13,'0','y','13'), (14,NULL,'no','14')"
    many = "SELECT seq, IF(seq%2,'no','b'), IF(seq%3,'no','x'), seq FROM"
    tables = [f"t{i}" for i in range(len(KEYS))]
    move.on(
        SOURCE,
        ZERO,
        *(f"INSERT INTO {table} VALUES {first}" for table in tables),
        *(f"INSERT INTO {table} {many} seq_101_to_200" for table in tables),
    )
    move.running()
    move.assert_equal()
    for table in tables:
        move.on(
            SOURCE,
            ZERO,
            f"INSERT INTO {table} VALUES {later}",
            f"UPDATE {table} SET e='no', `f'é`='no' WHERE id=2",
            f"UPDATE {table} SET e='' WHERE id=1",
            f"UPDATE {table} SET id=5, `f'é`='x' WHERE id=4",
            f"DELETE FROM {table} WHERE id IN (14, 103)",
            f"INSERT INTO {table} {many} seq_20001_to_20050",
        )
    move.settled_equal()
    with move.target() as target:
        found = target.query("SELECT e+0 AS e, `f'é`+0 AS f FROM t0 WHERE id IN (2, 11, 12) ORDER BY id")
    assert [(row["e"], row["f"]) for row in found] == [(0, 0), (0, 0), (2, 1)]


def test_what_the_target_would_change_in_a_row_with_an_index_zero_is_an_error(move: Moving) -> None:
    move.tables("CREATE TABLE t (id INT PRIMARY KEY, e ENUM('a','b','c'), v VARCHAR(20))")
    move.on(SOURCE, ZERO, "INSERT INTO t VALUES (1,'no','x'), (2,'a','x')")
    move.running()
    move.on(TARGET, "ALTER TABLE t MODIFY v VARCHAR(1)")
    move.on(SOURCE, ZERO, "INSERT INTO t VALUES (3,'no','long'), (4,'a','x')")
    message = move.wait_for_error()
    assert "2 warnings after 1 ENUM values of index 0: Data too long for column 'v'" in message or (
        "Data truncated for column 'v'" in message
    )
    with move.target() as target:
        assert target.value("SELECT COUNT(*) FROM t") == 2


def test_a_member_that_the_target_lacks_does_not_become_index_zero(move: Moving) -> None:
    move.tables("CREATE TABLE t (id INT PRIMARY KEY, e ENUM('a','b','c'))")
    move.on(SOURCE, ZERO, "INSERT INTO t VALUES (1,'no'), (2,'a')")
    move.running()
    move.on(TARGET, "ALTER TABLE t MODIFY e ENUM('a','b')")
    move.on(SOURCE, ZERO, "INSERT INTO t VALUES (3,'no'), (4,'c')")
    assert "2 warnings after 1 ENUM values of index 0" in move.wait_for_error()


def test_definitions_around_the_values(move: Moving, pairing: Pairing) -> None:
    """Chains of generated columns under unique keys, spatial keys, full sets, values that no client gave."""
    both_mysql = pairing == Pairing("mysql", "mysql")
    functional = ", UNIQUE KEY f ((a+b))" if both_mysql else ""
    srid, end = (" SRID 4326", ", 4326)") if both_mysql else ("", ")")
    point = f"ST_GeomFromText('POINT(10 20)'{end}"
    members = ",".join(f"'m{i}'" for i in range(64))
    many = ",".join(f"'e{i}'" for i in range(300))
    move.tables(
        "CREATE TABLE chain (id INT PRIMARY KEY, a INT, b INT, c INT AS (a+b) VIRTUAL, d INT AS (c*2) STORED, "
        "e VARCHAR(40) AS (CONCAT(d,'x')) VIRTUAL, w VARCHAR(10) DEFAULT (CONCAT('a','b')), UNIQUE KEY (d), KEY (c), "
        f"CHECK (a<1000){functional})",
        f"CREATE TABLE shape (id INT PRIMARY KEY, p POINT NOT NULL{srid}, v INT, SPATIAL INDEX (p))",
        f"CREATE TABLE wide (id INT PRIMARY KEY, s SET({members}), e ENUM({many}), v INT)",
        *(["CREATE TABLE nothing (id INT PRIMARY KEY, j JSON NOT NULL, v INT)"] if both_mysql else []),
        *(["CREATE TABLE leaves (id INT, j JSON)"] if both_mysql else []),
    )
    dates = ",".join(["DATE'2024-02-29'"] * 200)  # more than GROUP_CONCAT gives unless told to
    move.on(
        SOURCE,
        ZERO,
        "INSERT INTO chain (id,a,b) VALUES (1,1,2),(2,3,4)",
        f"INSERT INTO shape VALUES (1,{point},1),(2,{point},2)",
        "INSERT INTO wide VALUES (1,18446744073709551615,300,1),(2,9223372036854775808,256,1),(3,0,'no',1)",
        *(["INSERT IGNORE INTO nothing (id) VALUES (1)"] if both_mysql else []),
        *([f"INSERT INTO leaves VALUES (1,JSON_ARRAY({dates}))"] if both_mysql else []),
    )
    move.running()
    move.assert_equal()
    move.on(
        SOURCE,
        ZERO,
        "UPDATE chain SET a=a+10",
        "INSERT INTO chain (id,a,b) VALUES (3,30,3)",
        "DELETE FROM chain WHERE id=1",
        "UPDATE shape SET v=3",
        f"INSERT INTO shape VALUES (3,{point},3)",
        "UPDATE wide SET v=2",
        "INSERT INTO wide VALUES (4,'m63',255,1)",
        *(["UPDATE nothing SET v=1", "INSERT IGNORE INTO nothing (id) VALUES (2)"] if both_mysql else []),
    )
    move.settled_equal()


def test_sessions_in_other_zones_and_modes(move: Moving) -> None:
    move.tables(
        "CREATE TABLE t (id INT AUTO_INCREMENT PRIMARY KEY, at TIMESTAMP(3) DEFAULT CURRENT_TIMESTAMP(3) "
        "ON UPDATE CURRENT_TIMESTAMP(3), v VARCHAR(20) DEFAULT 'x', w INT AS (LENGTH(v)) STORED)"
    )
    odd = "SET time_zone='-11:30', sql_mode='ANSI_QUOTES,PIPES_AS_CONCAT'"
    rows = [
        r"INSERT INTO t (id, v) VALUES (0, 'a\')",
        "INSERT INTO t (v) VALUES ('b\"'), (NULL)",
        r"UPDATE t SET v='c\'",
    ]
    modes = "SET sql_mode='NO_AUTO_VALUE_ON_ZERO,NO_BACKSLASH_ESCAPES'"
    move.on(SOURCE, odd, modes, *rows)
    move.running()
    move.on(SOURCE, odd, modes, *(row.replace("(0,", "(-5,") for row in rows))
    move.settled_equal()


def test_rows_of_five_megabytes(move: Moving) -> None:
    move.tables(
        "CREATE TABLE t (id INT PRIMARY KEY, b LONGBLOB, v INT)",
        "INSERT INTO t SELECT seq, REPEAT(CHAR(seq), IF(seq % 5, 1000, 5000000)), 1 FROM seq_1_to_20",
    )
    packet = {}
    for keyspace in (SOURCE, TARGET):
        with move.pair.connect(keyspace) as connection:
            packet[keyspace] = connection.value("SELECT @@global.max_allowed_packet")
            connection.execute("SET GLOBAL max_allowed_packet=12582912")
    try:
        move.running()
        move.on(
            SOURCE, "UPDATE t SET v=2 WHERE id IN (5, 6, 10)", "INSERT INTO t SELECT id+100, b, 3 FROM t WHERE id=5"
        )
        move.settled_equal()
    finally:
        for keyspace in (SOURCE, TARGET):
            move.on(keyspace, f"SET GLOBAL max_allowed_packet={packet[keyspace]}")


def test_a_row_that_no_packet_can_hold_is_an_error_that_says_what_to_set(move: Moving) -> None:
    move.tables("CREATE TABLE t (id INT PRIMARY KEY, b LONGBLOB)", "INSERT INTO t VALUES (1, REPEAT('x', 600000))")
    with move.target() as target:
        before = target.value("SELECT @@global.max_allowed_packet")
        loading = target.value("SELECT @@global.local_infile")
        target.execute("SET GLOBAL max_allowed_packet=1048576")
        target.execute("SET GLOBAL local_infile=0")  # a row that is loaded needs no packet of its size
        try:
            move.created()
            move.run_streams()
            assert "max_allowed_packet" in move.wait_for_error()
        finally:
            target.execute(f"SET GLOBAL max_allowed_packet={before}, GLOBAL local_infile={loading}")
    move.stop_streams()
    move.perform("start_workflow")
    move.run_streams()
    move.settled_equal()


def test_one_transaction_larger_than_a_batch(move: Moving, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("executor.native.stream.apply.SPILL_BYTES", 2000)
    move.tables(
        "CREATE TABLE t (id INT PRIMARY KEY, v INT, UNIQUE KEY (v))", "INSERT INTO t SELECT seq, seq FROM seq_1_to_500"
    )
    move.running()
    move.on(
        SOURCE,
        "START TRANSACTION",
        "UPDATE t SET v=v+1000 ORDER BY v DESC",
        "DELETE FROM t WHERE id % 3=0",
        "UPDATE t SET id=id+1 ORDER BY id DESC",
        "SAVEPOINT s",
        "DELETE FROM t",
        "ROLLBACK TO s",
        "INSERT INTO t SELECT seq, seq FROM seq_2000_to_2500",
        "COMMIT",
    )
    move.settled_equal()


def test_no_table_is_too_empty(move: Moving) -> None:
    move.tables("CREATE TABLE t (id INT PRIMARY KEY)", "CREATE TABLE g (id INT PRIMARY KEY, g INT AS (id) STORED)")
    move.running()
    move.on(SOURCE, "INSERT INTO t VALUES (1)", "INSERT INTO g (id) VALUES (1)")
    move.settled_equal()
