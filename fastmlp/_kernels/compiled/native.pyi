from collections.abc import Sequence
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
        versions: dict[tuple[str, str], int],
    ) -> None: ...
    def __call__(self, *args: Any) -> Any: ...
