"""Errors, validation, threads and random numbers; imported by all other packages and importing none of them."""
