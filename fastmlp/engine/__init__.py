"""The engine's side of training: which models it can run, and how they are laid out for its kernels."""
