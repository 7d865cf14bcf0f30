"""Column by column, what is made from what: of one query, and of the whole project."""
