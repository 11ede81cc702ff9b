"""MySQL's programs: how a data folder is made and a server is started with them.

They are those of this machine, or those of a folder with a system of its own that `script/mysql` fetches: where MariaDB
is installed, its packages leave no room for MySQL's. Programs of that folder are run by its own loader with its own
libraries, so neither a container nor root is needed.
"""

from __future__ import annotations

import os
import subprocess
from functools import lru_cache
from pathlib import Path

from executor.errors import MovetablesError
from executor.native.local.local_server import LocalServer
from executor.native.local.programs import as_root, common_options, found
from executor.native.logins import MANAGED_USER

READ_ONLY_OPTION = "--super-read-only"  # our own user may write to what is only read_only
INSTALL_HINT = "install MySQL 8.4 or later, or fetch it into your cache on Debian, as root: script/mysql"
LIBRARIES = ("usr/lib/{}-linux-gnu", "lib/{}-linux-gnu")
LOADERS = {"x86_64": "lib64/ld-linux-x86-64.so.2", "aarch64": "lib/ld-linux-aarch64.so.1"}


def cached_folder() -> Path:
    """Where `script/mysql` puts the system that holds MySQL."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "movetables" / "mysql-sid"


def installed() -> bool:
    """True when this machine can start MySQL."""
    return _command() is not None


def program() -> list[str]:
    """What starts mysqld, with the options that say where its files are. Raises MovetablesError without MySQL."""
    command = _command()
    if command is None:
        raise MovetablesError("mysqld of MySQL was not found on this machine", INSTALL_HINT)
    return command


def _command() -> list[str] | None:
    on_path = found("mysqld")
    if on_path is not None and _is_mysql(on_path):
        return [on_path, "--no-defaults"]
    root, machine = cached_folder(), os.uname().machine
    binary, loader = root / "usr/sbin/mysqld", root / LOADERS.get(machine, "no loader")
    if not (binary.exists() and loader.exists()):
        return None
    libraries = ":".join(str(root / folder.format(machine)) for folder in LIBRARIES)
    return [
        *(str(loader), "--library-path", libraries, str(binary), "--no-defaults"),
        f"--basedir={root / 'usr'}",
        f"--plugin-dir={root / 'usr/lib/mysql/plugin'}",
    ]


@lru_cache(maxsize=8)
def _is_mysql(path: str) -> bool:
    """MariaDB installs its server under the name mysqld too."""
    said = subprocess.run([path, "--no-defaults", "--version"], capture_output=True, text=True, check=False).stdout
    return "mariadb" not in said.lower()


def fill(data: Path) -> subprocess.CompletedProcess[str]:
    """Runs mysqld --initialize-insecure (3.5 s). Raises MovetablesError when MySQL is not installed."""
    result = subprocess.run(
        [
            *program(),
            "--initialize-insecure",
            f"--datadir={data.absolute()}",
            f"--tmpdir={data.parent.absolute()}",
            "--secure-file-priv=",
            "--innodb-flush-method=nosync",
            "--innodb-redo-log-capacity=16M",
            *as_root(),
        ],
        cwd=data.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    (data / "auto.cnf").unlink(missing_ok=True)  # the uuid of a server; every copy makes its own
    return result


def own(server: LocalServer, _options: tuple[str, ...]) -> str:
    """Writes what the server reads when it starts: our user, unless there is one. Cannot fail but with OSError."""
    path = _init_file(server)
    path.touch(mode=0o600)
    path.write_text(_user_sql(server.password))
    return ""


def arguments(server: LocalServer, options: tuple[str, ...]) -> list[str]:
    """The command line of the server."""
    return [
        *program(),
        *common_options(server),
        f"--init-file={_init_file(server)}",
        "--gtid-mode=ON",
        "--enforce-gtid-consistency=ON",
        "--log-bin-trust-function-creators=ON",
        "--binlog-expire-logs-seconds=0",  # a new replica begins at the first binlog
        "--mysqlx=OFF",
        "--local-infile=ON",  # as MariaDB has it
        "--secure-file-priv=",
        # As small as it gets: a cluster has seven of these.
        "--innodb-redo-log-capacity=64M",
        "--innodb-log-buffer-size=1M",
        "--table-open-cache=400",
        "--table-definition-cache=400",
        "--key-buffer-size=8",
        *as_root(),
        *options,
    ]


def _init_file(server: LocalServer) -> Path:
    return server.directory / "init.sql"


def _user_sql(password: str) -> str:
    lines = ["SET SESSION sql_log_bin=0;"]  # each server has its own user: it is no part of what is replicated
    for host in ("127.0.0.1", "localhost"):
        lines.append(f"CREATE USER IF NOT EXISTS '{MANAGED_USER}'@'{host}' IDENTIFIED BY '{password}';")
        lines.append(f"GRANT ALL PRIVILEGES ON *.* TO '{MANAGED_USER}'@'{host}' WITH GRANT OPTION;")
    # The template has an account without a password; nobody may use it.
    lines.append("DROP USER IF EXISTS 'root'@'localhost';")
    return "\n".join(lines) + "\n"
