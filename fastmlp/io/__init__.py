"""Files: atomic writes, safetensors, weights of other programs, the state of a fit."""
