"""The seven batch systems of AnyCompany, one module each: rows, quirks, delivery."""
