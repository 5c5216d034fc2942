"""Solvers: Levenberg-Marquardt, variable projection, the search for starts, and optimizers of torch."""
