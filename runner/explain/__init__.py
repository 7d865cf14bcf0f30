"""A row traced down to the raw rows, files and loads that it was made from."""
