"""Activations: one file each, whose functions are

- ``forward(x, alpha)``: y = h(x); alpha is the activation's one number,
- ``derivative(x, y, alpha)``: h'(x), with y = h(x),
- ``derivative_of_output(x, y, alpha)``: the same without reading x, where y alone tells it; then x need not be kept,
- ``output_suffices(alpha)``, in Python, never compiled: for which alpha that holds (all, where there is none).
"""
