"""Pairs of values that a comparison may take for equal, and must not."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Difference:
    """Values of one or two columns, as SQL: `here` on the source and `there` on the target.

    `only` names the server whose type it is, or that keeps it: MariaDB makes 0.0 of -0.0. `look_alike` values differ in
    nothing that a sample shows.
    """

    types: tuple[str, ...]
    here: tuple[str, ...]
    there: tuple[str, ...]
    only: str = ""
    look_alike: bool = False


def _one(kind: str, here: str, there: str, only: str = "", *, look_alike: bool = False) -> Difference:
    return Difference((kind,), (here,), (there,), only, look_alike)


DIFFERENCES = {
    "one microsecond": _one("DATETIME(6)", "'2024-05-05 10:00:00.123456'", "'2024-05-05 10:00:00.123457'"),
    "one microsecond of a timestamp": _one(
        "TIMESTAMP(6) NULL", "'2024-05-05 10:00:00'", "'2024-05-05 10:00:00.000001'"
    ),
    "one microsecond of a time": _one("TIME(6)", "'-10:00:00.000001'", "'-10:00:00.000002'"),
    "one hour across daylight saving": _one("TIMESTAMP NULL", "'2024-10-27 00:30:00'", "'2024-10-27 01:30:00'"),
    "one ulp of a double": _one("DOUBLE", "0.1e0", "0.10000000000000002e0"),
    "one ulp of a large double": _one("DOUBLE", "1.7976931348623157e308", "1.7976931348623155e308"),
    "one ulp of a denormal double": _one("DOUBLE", "4.9406564584124654e-324", "9.8813129168249309e-324"),
    "one ulp of a double shown with 2 digits": _one("DOUBLE(10,2)", "1.5", "1.25"),
    "one ulp of a small double": _one("DOUBLE", "1.736033744707875e-15", "1.7360337447078752e-15"),
    "one ulp of a small float": _one("FLOAT", "0.00001e0", "0.000010000001e0"),
    "one ulp of a tiny float": _one("FLOAT", "-1.1754944e-38", "-1.1754945e-38"),
    "one ulp of a denormal float": _one("FLOAT", "1.4e-45", "2.8e-45"),
    "a half and 2^63": _one("DOUBLE", "0.5e0", "9223372036854775808e0"),
    "one ulp of a float": _one("FLOAT", "0.1e0", "0.100000009e0"),
    "negative zero": _one("DOUBLE", "'-0'", "0e0", "mysql"),
    "negative zero of a float": _one("FLOAT", "'-0'", "0e0", "mysql"),
    "the largest unsigned": _one("BIGINT UNSIGNED", "18446744073709551615", "18446744073709551614"),
    "sign": _one("BIGINT", "-1", "1"),
    "leading zeros": _one("INT(6) ZEROFILL", "42", "43"),
    "case": _one("VARCHAR(10) COLLATE utf8mb4_general_ci", "'abc'", "'abC'"),
    "accent": _one("VARCHAR(10) COLLATE utf8mb4_unicode_ci", "'abc'", "'äbc'"),
    "sharp s": _one("VARCHAR(10) COLLATE utf8mb4_unicode_520_ci", "'ß'", "'ss'"),
    "composed and decomposed": _one("VARCHAR(10)", "'é'", "'e\u0301'", look_alike=True),
    "trailing space": _one("VARCHAR(10)", "'abc'", "'abc '"),
    "trailing space of a text": _one("TEXT", "'abc'", "'abc '"),
    "trailing zero byte": _one("VARBINARY(10)", "X'6100'", "X'61'"),
    "NULL and the empty string": _one("VARCHAR(10)", "NULL", "''"),
    "NULL and the word": _one("VARCHAR(10)", "NULL", "'NULL'", look_alike=True),
    "NULL and its mark": _one("VARCHAR(10)", "NULL", "'N'"),
    "NULL and zero": _one("INT", "NULL", "0"),
    "NULL and the empty blob": _one("BLOB", "NULL", "''"),
    "swapped neighbours": Difference(("VARCHAR(10)", "VARCHAR(10)"), ("'a'", "'b'"), ("'b'", "'a'")),
    "shifted border": Difference(("VARCHAR(10)", "VARCHAR(10)"), ("'ab'", "'c'"), ("'a'", "'bc'")),
    "shifted border with quotes": Difference(
        ("VARCHAR(10)", "VARCHAR(10)"), ("'a'',''b'", "'c'"), ("'a'", "'b'',''c'")
    ),
    "shifted border with lengths": Difference(("VARCHAR(10)", "VARCHAR(10)"), ("'a,1'", "'b'"), ("'a'", "'1,b'")),
    "shifted border of numbers": Difference(("INT", "INT"), ("1", "23"), ("12", "3")),
    "NULL on the left or right": Difference(("VARCHAR(10)", "VARCHAR(10)"), ("NULL", "'a'"), ("'a'", "NULL")),
    "latin1": _one("VARCHAR(10) CHARACTER SET latin1", "'é'", "'e'"),
    "a byte without a character": _one("VARCHAR(10) CHARACTER SET cp1251", "X'98'", "'?'"),
    "utf16": _one("VARCHAR(10) CHARACTER SET utf16", "'a'", "'A'"),
    "gbk": _one("VARCHAR(10) CHARACTER SET gbk", "'中'", "'国'"),
    "bit": _one("BIT(64)", "b'1'", "~b'0'"),
    "enum": _one("ENUM('a','b')", "'a'", "'b'"),
    "enum by case": _one("ENUM('','b','B') COLLATE utf8mb4_bin", "'b'", "'B'"),
    "set": _one("SET('a','b','c')", "'a,c'", "'a,b'"),
    "year": _one("YEAR", "2000", "0000"),
    "last digit": _one("DECIMAL(65,30)", "1.000000000000000000000000000001", "1.000000000000000000000000000002"),
    "number and fraction": _one("JSON", "'{\"a\": 1}'", "'{\"a\": 1.0}'"),
    "JSON decimal and double": _one(
        "JSON", "JSON_ARRAY(CAST(1.5 AS DECIMAL(3,1)))", "'[1.5]'", "mysql", look_alike=True
    ),
    "JSON null": _one("JSON", "NULL", "'null'"),
    "JSON spacing": _one("JSON", "'{\"a\":1}'", "'{\"a\": 1}'", "mariadb"),
    "one bit of a blob": _one(
        "LONGBLOB", "CONCAT(REPEAT('x',100000),'x')", "CONCAT(REPEAT('x',100000),'y')", look_alike=True
    ),
    "one bit of a text": _one("TEXT", "'abc'", "'cbc'"),
    "one bit of a number": _one("BIGINT", "4611686018427387904", "0"),
    "one bit of a double": _one("DOUBLE", "1e0", "1.0000000000000002e0"),
    "zero date": _one("DATE", "'0000-00-00'", "NULL"),
    "date with zero parts": _one("DATE", "'2024-00-10'", "'2024-00-11'"),
}


def differences(*servers: str) -> dict[str, Difference]:
    """Those whose types all of `servers` have."""
    return {name: found for name, found in DIFFERENCES.items() if not found.only or {found.only} == set(servers)}
