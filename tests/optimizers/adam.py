import numpy as np


def update(o, t, g, p, s):
    g = g + o.weight_decay * p
    b1, b2 = o.betas
    s["exp_avg"] = b1 * s.get("exp_avg", 0) + (1 - b1) * g
    s["exp_avg_sq"] = b2 * s.get("exp_avg_sq", 0) + (1 - b2) * g**2
    m, v = s["exp_avg"] / (1 - b1**t), s["exp_avg_sq"] / (1 - b2**t)
    return p - o.schedule(t - 1) * m / (np.sqrt(v) + o.eps)
