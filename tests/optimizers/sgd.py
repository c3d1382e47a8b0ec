def update(o, t, g, p, s):
    g = g + o.weight_decay * p
    v = o.momentum * s.get("velocity", 0) + g
    if o.momentum:
        s["velocity"] = v
    return p - o.schedule(t - 1) * (g + o.momentum * v if o.nesterov else v)
