"""Focal loss of a class: -(1 - p)^gamma log p; a is gamma."""

from __future__ import annotations

from ...number import exp, expm1, full_like, log, where


def class_term(log_p, a):
    p, rest = exp(log_p), -expm1(log_p)
    rest = where(rest > 1e-37, rest, full_like(rest, 1e-37))  # 1 - p, kept above 0 for a finite logarithm
    power = exp(a * log(rest))
    product = where(p > 0.0, p * log_p, p)  # p log p, 0 at p = 0
    return -power * log_p, power * (a * product / rest - 1.0)
