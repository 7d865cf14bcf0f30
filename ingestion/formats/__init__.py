"""Reads the formats in which files arrive, and makes those readable that DuckDB cannot read itself.

original (+ declaration) -> `preparing.prepare` -> units: the original itself, or a prepared file

| module | does |
|---|---|
| streams | compression, archives, encodings, files written whole or not at all |
| csvfile | header, exact tokeniser, salvage of the good records of a faulty file |
| jsonfile | JSON documents, salvage of faulty NDJSON |
| xmlfile, excelfile, parquetfile, textfile, mailfile, avrofile | one format each |
| tables | records as Parquet of texts |
"""
