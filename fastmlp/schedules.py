"""The name of `optim.schedules` in pickles of estimators that earlier versions wrote."""

from __future__ import annotations

from .optim import schedules
from .optim.schedules import __all__ as __all__

globals().update({name: getattr(schedules, name) for name in __all__})
