import numpy as np


def update(o, t, g, p, s):
    b1, b2 = o.betas
    m = s.get("exp_avg", 0)
    s["exp_avg"] = b2 * m + (1 - b2) * g
    return p - o.schedule(t - 1) * (np.sign(b1 * m + (1 - b1) * g) + o.weight_decay * p)
