import numpy as np


def update(o, t, g, p, s):
    g = g + o.weight_decay * p
    v = s["square_avg"] = o.alpha * s.get("square_avg", 0) + (1 - o.alpha) * g**2
    if o.centered:
        s["grad_avg"] = o.alpha * s.get("grad_avg", 0) + (1 - o.alpha) * g
        v = v - s["grad_avg"] ** 2
    u = g / (np.sqrt(v) + o.eps)
    if o.momentum:
        u = s["velocity"] = o.momentum * s.get("velocity", 0) + u
    return p - o.schedule(t - 1) * u
