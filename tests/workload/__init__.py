"""A workload that knows what it was told: run it while tables move, then ask for the verdict.

from tests.workload import Workload, prepare

prepare(connection, "commerce")                    # account, transfer_log, audit; move the first two
workload = Workload(connect, "commerce")           # connect() makes one pymysql connection to the gateway
workload.start()
...                                                # create, copy, switch, reverse, switch
workload.keyspace = "customer"                     # how applications address the tables after completing
verdict = workload.verify(connection)              # stops the clients
assert verdict.ok, verdict.text()
"""

from tests.workload.schema import MOVED_TABLES, prepare
from tests.workload.verdict import Verdict
from tests.workload.workload import Workload

__all__ = ["MOVED_TABLES", "Verdict", "Workload", "prepare"]
