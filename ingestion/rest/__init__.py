"""HTTP APIs that answer in JSON: a room for each part of reading one by declaration alone.

declared -> auth, limits -> parents, bounds -> pages, ahead -> records -> reading

`declared` is what the YAML may say; `reading` is where a table is read; the others know one thing
each. Left out: what a declaration cannot say, which is a source of kind `python`.
"""
