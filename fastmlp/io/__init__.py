"""File formats: atomic writes, safetensors, weights of other programs, training states."""
