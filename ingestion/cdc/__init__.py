"""Change capture: tables of a database by their log, after one reading of all rows.

log -> `pgoutput` -> `lander` -> landing/<source>/<table>/<load>.<first>-<last>.parquet -> raw

The log says what happened, in the order of commits: raw keeps all of it, and the current state and
the history of a row follow from raw as they do for any other source. Landing is the checkpoint, and
the database is told of a position only once everything before it is durable.
"""
