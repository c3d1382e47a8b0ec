import numpy as np


def update(o, t, g, p, s):
    g = g + o.weight_decay * p
    s["total"] = s.get("total", o.initial_accumulator_value) + g**2
    rate = o.schedule(t - 1) / (1 + (t - 1) * o.lr_decay)
    return p - rate * g / (np.sqrt(s["total"]) + o.eps)
