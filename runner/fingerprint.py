"""Names the content of the warehouse file, so that an audit can vouch for exactly that.

warehouse file -> header, which DuckDB rewrites with a counter at each checkpoint -> fingerprint

Opening or reading the file leaves the header as it is; any change to the data, by whichever
program, changes it. So an audit holds for a fingerprint, and publish asks for the one it finds.
Left out: a hash of the whole file, which would cost a read of everything.
"""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

# The main header and the two database headers, 4 KiB each.
_HEADER_BYTES = 3 * 4096


def fingerprint(path: Path) -> str | None:
    """A name for what the warehouse file holds now.

    Returns:
        The name; None if there is no file, or if changes lie in its write-ahead log, which the
        header does not know yet.
    """
    log = path.with_name(f"{path.name}.wal")
    if not path.is_file() or (log.is_file() and log.stat().st_size > 0):
        return None
    with path.open("rb") as handle:
        header = handle.read(_HEADER_BYTES)
    return sha256(header + str(path.stat().st_size).encode()).hexdigest()[:32]
