"""The MySQL-protocol door that applications connect to.

A client's statement is read only to find its tables (scan, statement, tables), routed by the topology's rules
(snapshot, routing), sent to one tablet and its answer relayed as bytes (execute, connections, backend, result).

Limits. Refused with a message that says what to do instead:
- a statement that needs two keyspaces at once; COM_CHANGE_USER and COM_FIELD_LIST; COMMIT AND CHAIN;
- LOCK TABLES (load dumps made with --skip-add-locks), XA, HANDLER, PREPARE and EXECUTE as SQL;
- SET GLOBAL, users, replication, FLUSH, CREATE and DROP DATABASE: administration of one server;
- sql_mode ANSI_QUOTES and NO_BACKSLASH_ESCAPES, and character sets whose characters may hold a quote (gbk, sjis, big5).
Not refused:
- a transaction over several keyspaces is committed in one after the other; a failure in between leaves the first
  committed, and the error names it;
- routines, triggers and views run on their server as they are: the tables inside them are not routed;
- variables set inside SELECT, temporary tables and GET_LOCK belong to one tablet's connection;
- CONNECTION_ID() is the tablet's, while KILL takes the id that the gateway greeted with;
- the results of several statements in one command are kept in memory until each is complete;
- the gateway signs in to tablets with its own account, so every client has that account's rights on the keyspaces;
- there is no TLS and no compression, neither to clients nor to tablets.
"""
