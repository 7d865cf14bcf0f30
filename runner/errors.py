"""What the runner adds to ingestion's errors, and the table of exit codes.

a step fails -> one exception with an exit code -> the command's exit code

Left out: faults of sources, files and settings, which `ingestion.errors` knows.
"""

from __future__ import annotations

from ingestion.errors import IngestionError

EXIT_CODES = {
    0: "all is well",
    1: "the build failed, or a fault that no other code names",
    2: "the audit failed: what it concerns was not published",
    3: "settings, a declaration or the dbt project are wrong",
    4: "a source failed or is older than it may be; what could be done is done",
    5: "another process holds the warehouse",
    6: "bad input: a file, a selection or an SQL text",
    7: "the disk is full",
    8: "a version is held back until a person decides: readers keep the former one",
    64: "the command line is wrong",
    130: "interrupted",
}


class BuildFailed(IngestionError):
    """A model or seed could not be built."""

    exit_code = 1


class AuditFailed(IngestionError):
    """A test of error severity failed, or the warehouse was not audited since it last changed."""

    exit_code = 2


class SourceStale(IngestionError):
    """A source's newest row is older than its declaration allows."""

    exit_code = 4


class VersionHeld(IngestionError):
    """A sealed version is not shown to readers until a person decides."""

    exit_code = 8


class StoreFailed(IngestionError):
    """The place of the backups cannot be reached, read or written."""

    exit_code = 1
