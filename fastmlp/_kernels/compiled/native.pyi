from collections.abc import Callable, Iterable, Sequence
from typing import Any

def level() -> str: ...

class Kernel:
    name: str
    arguments: tuple[tuple[str, int], ...]
    def __init__(
        self,
        name: str,
        arguments: Sequence[tuple[str, int]],
        result: str | None,
        versions: Sequence[tuple[str, str]],
        address: Callable[[str, str], int],
    ) -> None: ...
    def __call__(self, *args: Any) -> Any: ...
    def bind(self, *args: Any) -> BoundKernel: ...

class BoundKernel:
    def __call__(self) -> Any: ...

class Watch:
    def __init__(
        self,
        attributes: Iterable[tuple[dict[str, Any], str, Any]],
        sizes: Iterable[tuple[dict[str, Any], int]],
        arrays: Iterable[tuple[Any, bytes]],
    ) -> None: ...
    def unchanged(self) -> bool: ...

class NativeStep:
    prepared: Any
    watch: Watch
    def __init__(
        self,
        session: Any,
        prepared: Any,
        model: Any,
        loss: Any,
        optimizer: Any,
        watch: Watch,
        refill: Callable[[bool], tuple[int, Any, Any, Watch | None] | None],
        check: bool,
    ) -> None: ...
    def step(self, trainer: Any, x: Any, y: Any) -> float | None: ...
    version: int
    def forward(self, trainer: Any, x: Any) -> Any: ...
    def infer(self, trainer: Any, x: Any) -> Any: ...
    def blend(self, trainer: Any, source: Any, target: Any, places: Any, share: float) -> bool: ...
    def backward(self, trainer: Any, gradient: Any) -> bool | None: ...

class NativeInference:
    prepared: Any
    def __init__(self, prepared: Any, check: bool) -> None: ...
    def run(self, x: Any) -> Any: ...

class Plan:
    dtype: Any
    threads: int
    row_threads: int
    def __init__(
        self,
        inputs: int,
        dtype: Any,
        lanes: int,
        linear: int,
        convert: int,
        steps: Sequence[tuple[Any, ...]],
        threads: int = 1,
        row_threads: int = 1,
    ) -> None: ...
    def __call__(self, x: Any, out: Any = None) -> Any: ...

def blend(source: Any, target: Any, places: Any, share: float) -> None: ...
def copy_panels(arrays: list[Any], data: Any, places: Any, lanes: int, unpack: bool) -> bool: ...

class GuardedRange:
    def __init__(self, address: int, size: int) -> None: ...
    def failed(self) -> tuple[int, int]: ...
    def release(self) -> None: ...
