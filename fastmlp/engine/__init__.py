"""Engine side of training: supported models, and their layout for the kernels."""
