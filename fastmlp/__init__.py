"""fastmlp: multilayer perceptrons from scratch, trained and run fast.

``import fastmlp`` loads only NumPy; each public name brings its own file along when it is first used. The names and
their files are those of ``__init__.pyi``.
"""

from __future__ import annotations

import importlib
from typing import Any

from ._common.installed import is_installed as _is_installed
from ._common.lazy_names import import_name as _import_name
from ._common.lazy_names import read_names as _read_names

__version__ = "0.1.0"

_NAMES = _read_names(__file__)
# A name that lacks its library still says so when it is used; but `import *`, `help` and the like ask for all names.
__all__ = ["__version__"]
__all__ += [name for name, (_, library) in _NAMES.items() if not library or _is_installed(library)]


def __getattr__(name: str) -> Any:
    if name in ("datasets", "distributed"):  # packages that users name, as in fm.datasets.pack
        return importlib.import_module(f".{name}", __name__)
    globals()[name] = value = _import_name(__name__, _NAMES, name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
