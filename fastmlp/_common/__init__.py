"""Errors, validation, threads and random numbers: imported by every other package, imports none of them."""
