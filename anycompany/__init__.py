"""AnyCompany: the example company's systems, with generated data and the truth about it."""
