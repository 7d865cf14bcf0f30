"""The `wellspring` command: steps, run history, audit, publish, status.

It calls ingestion and dbt in its own process and is imported by neither.
"""
