"""The seven batch systems of AnyCompany, one module each: what rows they hold, their quirks, their delivery."""
