"""MariaDB's programs: how a data folder is made and a server is started with them."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from executor.errors import MovetablesError
from executor.native.local.local_server import LocalServer
from executor.native.local.programs import as_root, common_options, first_error, found
from executor.native.logins import MANAGED_USER

READ_ONLY_OPTION = "--read-only"
INSTALL_HINT = "install MariaDB 10.6 or later: on Debian or Ubuntu, apt-get install mariadb-server"


def _program(name: str) -> str:
    path = found(name)
    if path is None:
        raise MovetablesError(f"{name} was not found on this machine", INSTALL_HINT)
    return path


def fill(data: Path) -> subprocess.CompletedProcess[str]:
    """Runs mariadb-install-db (0.8 s). Raises MovetablesError when it is not installed."""
    return subprocess.run(
        [
            _program("mariadb-install-db"),
            "--no-defaults",
            f"--datadir=./{data.name}",  # its script breaks a path that holds a space
            "--auth-root-authentication-method=normal",
            "--skip-test-db",
            "--force",  # where not even localhost has a name, as in a bare container: accounts by host name are deleted
            "--innodb-log-file-size=16M",
            *as_root(),
        ],
        cwd=data.parent,
        env={**os.environ, "TMPDIR": str(data.parent)},
        capture_output=True,
        text=True,
        check=False,
    )


def own(server: LocalServer, options: tuple[str, ...]) -> str:
    """Makes our user, in a server that only reads statements and ends. Returns what went wrong, or nothing."""
    program, *others = arguments(server, options)
    result = subprocess.run(
        [program, others[0], "--bootstrap", *(a for a in others[1:] if not a.startswith("--log-"))],
        input=_user_sql(server.password),
        capture_output=True,
        text=True,
        check=False,
    )
    return first_error(result.stderr) if result.returncode != 0 else ""


def arguments(server: LocalServer, options: tuple[str, ...]) -> list[str]:
    """The command line of the server."""
    return [
        _program("mariadbd"),
        "--no-defaults",
        *common_options(server),
        "--log-slave-updates=ON",
        "--gtid-strict-mode=ON",
        "--innodb-log-file-size=64M",
        # As MySQL has it: with the default of 1, LOAD DATA statements into one table wait for each other.
        "--innodb-autoinc-lock-mode=2",
        *as_root(),
        *options,
    ]


def _user_sql(password: str) -> str:
    lines = ["FLUSH PRIVILEGES;"]
    for host in ("127.0.0.1", "localhost"):
        lines.append(f"CREATE USER '{MANAGED_USER}'@'{host}' IDENTIFIED BY '{password}';")
        lines.append(f"GRANT ALL PRIVILEGES ON *.* TO '{MANAGED_USER}'@'{host}' WITH GRANT OPTION;")
    # The template has accounts without a password; nobody may use them.
    lines.append("DELETE FROM mysql.global_priv WHERE User IN ('', 'root');")
    lines.append("FLUSH PRIVILEGES;")
    return "\n".join(lines) + "\n"
