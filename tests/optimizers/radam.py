import numpy as np


def update(o, t, g, p, s):
    (b1, b2), lr, decay = o.betas, o.schedule(t - 1), o.weight_decay
    p, g = ((1 - lr * decay) * p, g) if o.decoupled_weight_decay else (p, g + decay * p)
    s["exp_avg"] = b1 * s.get("exp_avg", 0) + (1 - b1) * g
    s["exp_avg_sq"] = b2 * s.get("exp_avg_sq", 0) + (1 - b2) * g**2
    m, rho = s["exp_avg"] / (1 - b1**t), 2 / (1 - b2) - 1
    now = rho - 2 * t * b2**t / (1 - b2**t)
    if now <= 5:
        return p - lr * m
    r = np.sqrt((now - 4) * (now - 2) * rho / ((rho - 4) * (rho - 2) * now))
    return p - lr * r * m * np.sqrt(1 - b2**t) / (np.sqrt(s["exp_avg_sq"]) + o.eps)
