from .._common.group import Group as Group
from .mpi_group import mpi as mpi
from .sweeps import SweepRun as SweepRun
from .sweeps import sweep as sweep
