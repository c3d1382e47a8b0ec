"""Activations, one file each.

A file defines

- ``forward(x, alpha)``: y = h(x); alpha is the activation's single parameter,
- ``derivative(x, y, alpha)``: h'(x), with y = h(x),
- ``derivative_of_output(x, y, alpha)``: h'(x) computed from y alone, if possible; x is then not read and not stored,
- ``output_suffices(alpha)``: whether ``derivative_of_output`` is valid for this alpha. It is optional (default: valid
  for all alpha), runs in Python and is never compiled.
"""
