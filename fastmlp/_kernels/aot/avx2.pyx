# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, embedsignature=False
# distutils: language=c

include "plan.pxi"
