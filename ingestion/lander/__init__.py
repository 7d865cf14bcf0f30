"""Landing what never ends: streams of messages and change logs, each by a long-running lander.

broker -> `Consumer` -> lander -> landing/<source>/<table>/<day>/<load>.<first>-<last>.parquet

What is landed is the only checkpoint: a lander goes on behind the newest file that it finds, and a
broker is told of a message only once its file is durable.
"""
