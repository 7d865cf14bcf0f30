"""What ingestr 1.1.21 needs to find a DuckDB: a description of the library in the duckdb wheel.

It looks for an ADBC driver called `duckdb` and would fetch one from the network; where
`ADBC_DRIVER_PATH` has a description of one, it takes that. The library of the Python wheel is such
a driver, but it also wants Python's symbols, so Python's shared library is loaded before it.
"""

from __future__ import annotations

import importlib.util
import os
import sysconfig
from pathlib import Path

_DESCRIPTION = """manifest_version = 1
name = "DuckDB"
version = "{version}"

[ADBC]
version = "1.1.0"

[Driver]
entrypoint = "duckdb_adbc_init"
shared = "{library}"
"""


def environment(scratch: Path) -> dict[str, str]:
    """The environment that ingestr runs with.

    Raises:
        RuntimeError: There is no DuckDB here that it can load.
    """
    from importlib import metadata

    found = importlib.util.find_spec("_duckdb")
    python = Path(sysconfig.get_config_var("LIBDIR"), sysconfig.get_config_var("INSTSONAME") or "")
    if found is None or found.origin is None or ".so" not in python.name or not python.exists():
        raise RuntimeError("ingestr needs a DuckDB wheel and a Python with a shared library")
    folder = scratch / "drivers"
    folder.mkdir()
    text = _DESCRIPTION.format(version=metadata.version("duckdb"), library=found.origin)
    (folder / "duckdb.toml").write_text(text)
    return {
        **os.environ,
        "ADBC_DRIVER_PATH": str(folder),
        "LD_PRELOAD": str(python),
        "INGESTR_DISABLE_TELEMETRY": "true",
        "HOME": str(scratch),
    }
