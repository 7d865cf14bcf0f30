"""One module per database system behind the kind `database`; `base` says what each has to offer."""
