"""The central side: what gateways send over MQTT, written to PostgreSQL exactly once, in effect. ``docs/central.md``.

Rules of this package:

1. An MQTT message is acknowledged to the broker after the COMMIT that holds it, never before. What a kill, a lost
   connection or a database that is away cut off comes again from the broker, and what is lost there from the gateway.
2. (site, stream, seq) is the key. ``record`` has a row for each message, and that row decides, in the same
   transaction, whether its samples are written: samples need no unique index, and any number of workers may get the
   same message at the same time.
3. Nothing is dropped silently. What can't be read stands in ``refused``, what lacks its catalogue waits in
   ``pending``, what never came stands in ``gap``.
4. An error of one message (data that PostgreSQL does not take) refuses that message; any other error of the database
   refuses none: the batch waits and is tried again.
5. Locks are taken in one order: advisory, sites, boots, records by (site, stream, seq). A deadlock that happens
   nonetheless is one more reason to try again.
"""
