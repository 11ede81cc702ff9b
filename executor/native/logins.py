"""Who we sign in as on each server of an inventory.

Servers that we started ourselves have one user, whose password is in a file of the data folder that only its owner may
read. For all others the inventory says in which environment variable or file the password is.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from executor.errors import MovetablesError
from executor.native.servers import Login
from executor.native.topology import TabletRecord
from planner.inventory import Credentials, Inventory, SecretRef, ServerAddress

MANAGED_USER = "movetables"
SECRET_FILE = "secret"


def make_secret(data_dir: Path) -> None:
    """Generates the password of the managed servers, unless there is one. Two processes may do so at once."""
    path = data_dir / SECRET_FILE
    if path.exists():
        return
    scratch = data_dir / f"{SECRET_FILE}.{os.getpid()}"
    scratch.unlink(missing_ok=True)
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_urlsafe(18))  # 24 characters; MASTER_PASSWORD of MySQL takes no more than 32
        try:
            os.link(scratch, path)
        except FileExistsError:
            return
    finally:
        scratch.unlink(missing_ok=True)


class Logins:
    """Logins for the servers of one inventory. Secrets are read when asked for, so a changed file takes effect."""

    def __init__(self, inventory: Inventory) -> None:
        self.inventory = inventory

    def topology(self) -> Login:
        """The topology server. Raises MovetablesError when its password cannot be read."""
        return self._login("topology", self.inventory.topology)

    def tablet(self, alias: str) -> Login:
        """The server of a tablet of the inventory. Raises MovetablesError for an unknown alias or secret."""
        tablet = self.inventory.tablet(alias)
        if tablet is None:
            raise MovetablesError(
                f"tablet {alias} is not in the inventory {self.inventory.file}", f"add {alias} under its tablets:"
            )
        return self._login(alias, tablet.server)

    def server(self, record: TabletRecord) -> Login:
        """The server of a tablet that the topology knows, at the address where it was registered."""
        if record.managed:
            return self._managed(record.alias, record.port)
        known = self.tablet(record.alias)
        return Login(record.alias, record.host, record.port, known.user, known.password)

    def gateway_users(self) -> dict[str, str]:
        """User name to password of everyone who may sign in to the gateway; empty when anybody may."""
        return {user.user: self._password("gateway", user) for user in self.inventory.gateway.users}

    def _login(self, name: str, server: ServerAddress) -> Login:
        if server.managed:
            return self._managed(name, server.port)
        if server.credentials is None:
            raise MovetablesError(
                f"the inventory {self.inventory.file} names no user for {name}",
                f"add credentials: at its top, or user: and password: to {name}",
            )
        password = self._password(name, server.credentials)
        return Login(name, server.host, server.port, server.credentials.user, password)

    def _managed(self, name: str, port: int) -> Login:
        # They listen on this address only, whatever word for this machine the inventory uses.
        return Login(name, "127.0.0.1", port, MANAGED_USER, self.managed_password())

    def managed_password(self) -> str:
        """The password of our user on the servers that we start; "" before the first start."""
        # Reading must change nothing: before the first start there is no secret, and no server that would want one.
        try:
            return (self.inventory.data_dir / SECRET_FILE).read_text()
        except FileNotFoundError:
            return ""
        except OSError as error:
            raise MovetablesError(
                f"the password of the local servers cannot be read: {error}",
                "run as the user who ran: movetables local up",
            ) from error

    def _password(self, name: str, credentials: Credentials) -> str:
        return self._secret(f"the password of user {credentials.user} of {name}", credentials.password)

    def _secret(self, what: str, reference: SecretRef | None) -> str:
        if reference is None:
            return ""
        if reference.env:
            value = os.environ.get(reference.env)
            if value is None:
                raise MovetablesError(
                    f"the environment variable {reference.env} is not set; {self.inventory.file} takes {what} from it",
                    f"export {reference.env}=...",
                )
            return value
        path = Path(self.inventory.file).parent / reference.file
        try:
            return path.read_text().rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            raise MovetablesError(
                f"{path} cannot be read ({error}); {self.inventory.file} takes {what} from it",
                f"write the password into {path}, one line",
            ) from error
