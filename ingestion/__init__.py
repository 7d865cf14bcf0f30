"""Extract and load: from declared sources to landing, from landing to raw and its ledger.

declarations -> extract (dlt) -> landing -> load (DuckDB) -> raw + ledger

Left out: building and publishing. Nothing here imports the runner.
"""
