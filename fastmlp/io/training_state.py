"""Training states: files from which a fit resumes with the same bits as an uninterrupted fit.

The metadata are text: ``format`` ("fastmlp-training"), ``format_version``, ``fastmlp_version``, ``identity`` (JSON:
configurations, arguments, fingerprint of the data, kernels; a resumed fit must have the same) and ``progress`` (JSON:
steps, position in the epoch, history, state of the callbacks). The tensors are those of the model
(``model.<name>``), of the optimizer (``optimizer.<parameter>.<kind>``) and of callbacks (``callbacks.<index>.<name>``).
"""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING, Any

from .._common.errors import ModelFileError, ResumeError, warn_user
from .._common.validation import Array
from .tensor_file import read_tensors, write_tensors

if TYPE_CHECKING:
    from ..training.trainer import Trainer

__all__ = ["STATE", "TrainingState", "save_state"]

FORMAT, FORMAT_VERSION = "fastmlp-training", 1
STATE = "training.safetensors"  # in a run folder


def save_state(trainer: Trainer, path: str | os.PathLike[str]) -> None:
    """Save the state of the running fit of ``trainer``; to be called from callbacks.

    Raises
    ------
    ValueError
        If no fit is running.
    OSError
        If the file cannot be written; an older file is unchanged.
    """
    from .. import __version__

    if trainer._fit is None:
        raise ValueError("The trainer runs no fit; expected a call from a callback of a running fit.")
    optimizer = trainer.optimizer.state_dict()
    tensors = {f"model.{name}": array for name, array in trainer.model.state_dict().items()}
    for name, kinds in optimizer.pop("state").items():
        tensors.update({f"optimizer.{name}.{kind}": array for kind, array in kinds.items()})
    remembered = []
    for place, listener in enumerate(trainer._fit.listeners.remembering):
        state, arrays = listener.state_dict()
        remembered.append({"type": type(listener).__name__, "state": state, "arrays": arrays is not None})
        tensors.update({f"callbacks.{place}.{name}": array for name, array in (arrays or {}).items()})
    progress = {
        "steps": trainer.steps,
        "end": trainer._fit.end,
        "position": trainer._order.position,
        "window": trainer._window,
        "last_lr": trainer._last_lr,
        "stopping": trainer._stopping,
        "optimizer": optimizer,
        "history": trainer.history.records,
        "seconds": time.perf_counter() - trainer._fit.began,
        "callbacks": remembered,
    }
    metadata = {
        "format": FORMAT,
        "format_version": str(FORMAT_VERSION),
        "fastmlp_version": __version__,
        "identity": json.dumps(trainer._fit.identity, sort_keys=True),
        "progress": json.dumps(progress),
    }
    write_tensors(path, tensors, metadata)


class TrainingState:
    """Training state that was read from a file.

    Parameters
    ----------
    path : path-like

    Raises
    ------
    ModelFileError
        If the file is damaged, has another format or was written by a later version.
    OSError
        If the file cannot be read.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = path
        metadata, self._tensors = read_tensors(path, FORMAT, FORMAT_VERSION)
        if metadata.get("format") != FORMAT:
            raise ModelFileError(
                f"{path} is not a training state: its format is {metadata.get('format')!r}, expected {FORMAT!r}."
            )
        if metadata.get("format_version") != str(FORMAT_VERSION):
            raise ModelFileError(
                f"{path} has format version {metadata.get('format_version')!r}; expected {FORMAT_VERSION}, or a later "
                "fastmlp."
            )
        try:
            identity, progress = json.loads(metadata["identity"]), json.loads(metadata["progress"])
        except (KeyError, ValueError, RecursionError) as error:
            raise ModelFileError(f"{path} is damaged: {error}.") from error
        if not isinstance(identity, dict) or not isinstance(progress, dict):
            raise ModelFileError(f"{path} is damaged: its identity or its progress is not a JSON object.")
        self.identity: dict[str, Any] = identity
        self._progress: dict[str, Any] = progress

    def restore(self, trainer: Trainer) -> float:
        """Restore the state in a trainer that begins a fit.

        Returns
        -------
        float
            Seconds that the fit had taken when the state was saved.

        Raises
        ------
        ResumeError
            If the state belongs to a fit with other data, arguments or components.
        ModelFileError
            If the content is not that of `save_state`.
        """
        fit = trainer._fit
        assert fit is not None
        ours: dict[str, Any] = json.loads(json.dumps(fit.identity))
        if set(ours) != set(self.identity):
            others = ", ".join(sorted(set(ours) ^ set(self.identity)))
            raise ResumeError(
                f"{self.path} cannot be resumed: another version of fastmlp wrote it; they differ in {others}."
            )
        for key in ours:
            if ours.get(key) == self.identity.get(key):
                continue
            if key == "kernels":
                warn_user(
                    f"{self.path} was saved by other kernels ({_short(self.identity[key])}, here {_short(ours[key])}); "
                    "the fit continues, but its last bits may differ from those of an uninterrupted fit.",
                    UserWarning,
                )
            else:
                raise ResumeError(
                    f"{self.path} cannot be resumed: its {key} is {_short(self.identity.get(key))}, "
                    f"here it is {_short(ours.get(key))}."
                )
        listeners, progress = fit.listeners.remembering, self._progress
        try:
            there, here = [entry["type"] for entry in progress["callbacks"]], [type(one).__name__ for one in listeners]
            if there != here:
                raise ResumeError(
                    f"{self.path} cannot be resumed: it was saved with the callbacks {there}, here they are {here}."
                )
            state: dict[str, dict[str, Array]] = {name: {} for name, _ in trainer.model.named_parameters()}
            for name, array in _under(self._tensors, "optimizer.").items():
                parameter, kind = name.rsplit(".", 1)
                state[parameter][kind] = array
            trainer.model.load_state_dict(_under(self._tensors, "model."))
            trainer.optimizer.load_state_dict({**progress["optimizer"], "state": state})
            for place, (listener, entry) in enumerate(zip(listeners, progress["callbacks"], strict=True)):
                arrays = _under(self._tensors, f"callbacks.{place}.") if entry["arrays"] else None
                listener.load_state_dict(entry["state"], arrays)
            epoch, row = progress["position"]
            total, done, *empty = progress["window"]  # early versions wrote two numbers
            trainer._order.position, trainer._window = (int(epoch), int(row)), (float(total), int(done), int(*empty))
            trainer.steps, fit.end = int(progress["steps"]), int(progress["end"])
            trainer._last_lr, trainer._stopping = float(progress["last_lr"]), bool(progress["stopping"])
            for record in progress["history"]:
                trainer.history.append(record)
            return float(progress["seconds"])
        except ResumeError:
            raise
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ModelFileError(f"{self.path} is not a training state of this fit: {error}.") from error


def _under(tensors: dict[str, Array], prefix: str) -> dict[str, Array]:
    return {name.removeprefix(prefix): array for name, array in tensors.items() if name.startswith(prefix)}


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
