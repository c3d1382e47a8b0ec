"""HTML reports of training runs."""

from .page import write_report
from .run import RunReport

__all__ = ["RunReport", "write_report"]
