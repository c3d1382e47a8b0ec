"""fastmlp: multilayer perceptrons from scratch, trained and run fast.

``import fastmlp`` loads only NumPy; each public name brings its own file along when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from .installed import is_installed as _is_installed

if TYPE_CHECKING:
    from . import init as init
    from ._kernels import get_backend as get_backend
    from ._kernels import set_backend as set_backend
    from ._kernels import use_backend as use_backend
    from .augmentation import GaussianNoise as GaussianNoise
    from .augmentation import HorizontalFlip as HorizontalFlip
    from .augmentation import Mixup as Mixup
    from .callbacks import Callback as Callback
    from .callbacks import EarlyStopping as EarlyStopping
    from .callbacks import MetricsFile as MetricsFile
    from .callbacks import SaveModel as SaveModel
    from .checkpoint import load_model as load_model
    from .checkpoint import save as save
    from .datasets import Dataset as Dataset
    from .datasets import load as load
    from .errors import BackendError as BackendError
    from .errors import DataError as DataError
    from .errors import DataWarning as DataWarning
    from .errors import DivergenceError as DivergenceError
    from .errors import GradientCheckError as GradientCheckError
    from .errors import ModelFileError as ModelFileError
    from .errors import PerformanceWarning as PerformanceWarning
    from .errors import ResumeError as ResumeError
    from .estimators import MLPClassifier as MLPClassifier
    from .estimators import MLPRegressor as MLPRegressor
    from .exchange.as_c import export_c as export_c
    from .exchange.as_npz import export_npz as export_npz
    from .exchange.with_onnx import export_onnx as export_onnx
    from .exchange.with_onnx import import_onnx as import_onnx
    from .exchange.with_skl2onnx import register_skl2onnx as register_skl2onnx
    from .exchange.with_torch import from_torch as from_torch
    from .exchange.with_torch import to_torch as to_torch
    from .gradcheck import GradientReport as GradientReport
    from .gradcheck import check_gradients as check_gradients
    from .history import History as History
    from .logging_callbacks import CSVFile as CSVFile
    from .logging_callbacks import TensorBoard as TensorBoard
    from .losses import BCEWithLogitsLoss as BCEWithLogitsLoss
    from .losses import CrossEntropyLoss as CrossEntropyLoss
    from .losses import HuberLoss as HuberLoss
    from .losses import L1Loss as L1Loss
    from .losses import LogCoshLoss as LogCoshLoss
    from .losses import MSELoss as MSELoss
    from .losses import PoissonLoss as PoissonLoss
    from .losses import QuantileLoss as QuantileLoss
    from .modules import ELU as ELU
    from .modules import GELU as GELU
    from .modules import MLP as MLP
    from .modules import Dropout as Dropout
    from .modules import Identity as Identity
    from .modules import LayerNorm as LayerNorm
    from .modules import LeakyReLU as LeakyReLU
    from .modules import Linear as Linear
    from .modules import Module as Module
    from .modules import Normalize as Normalize
    from .modules import ReLU as ReLU
    from .modules import Sequential as Sequential
    from .modules import Sigmoid as Sigmoid
    from .modules import SiLU as SiLU
    from .modules import Softmax as Softmax
    from .modules import Softplus as Softplus
    from .modules import Tanh as Tanh
    from .optim import SGD as SGD
    from .optim import Adagrad as Adagrad
    from .optim import Adam as Adam
    from .optim import AdamW as AdamW
    from .optim import RMSprop as RMSprop
    from .predictor import Predictor as Predictor
    from .progress import ProgressBar as ProgressBar
    from .saving import ModelCheckpoint as ModelCheckpoint
    from .saving import SaveState as SaveState
    from .schedules import Constant as Constant
    from .schedules import Cosine as Cosine
    from .schedules import Exponential as Exponential
    from .schedules import LinearWarmup as LinearWarmup
    from .schedules import OneCycle as OneCycle
    from .schedules import ReduceOnPlateau as ReduceOnPlateau
    from .schedules import StepDecay as StepDecay
    from .trainer import Trainer as Trainer

__version__ = "0.1.0"

# file: the public names that it defines
_NAMES = {
    "_kernels": ("get_backend", "set_backend", "use_backend"),
    "augmentation": ("GaussianNoise", "HorizontalFlip", "Mixup"),
    "callbacks": ("Callback", "EarlyStopping", "MetricsFile", "SaveModel"),
    "checkpoint": ("load_model", "save"),
    "datasets": ("Dataset", "load"),
    "errors": (
        "BackendError",
        "DataError",
        "DataWarning",
        "DivergenceError",
        "GradientCheckError",
        "ModelFileError",
        "PerformanceWarning",
        "ResumeError",
    ),
    "estimators": ("MLPClassifier", "MLPRegressor"),
    "exchange.as_c": ("export_c",),
    "exchange.as_npz": ("export_npz",),
    "exchange.with_onnx": ("export_onnx", "import_onnx"),
    "exchange.with_skl2onnx": ("register_skl2onnx",),
    "exchange.with_torch": ("from_torch", "to_torch"),
    "gradcheck": ("GradientReport", "check_gradients"),
    "history": ("History",),
    "logging_callbacks": ("CSVFile", "TensorBoard"),
    "losses": (
        "BCEWithLogitsLoss",
        "CrossEntropyLoss",
        "HuberLoss",
        "L1Loss",
        "LogCoshLoss",
        "MSELoss",
        "PoissonLoss",
        "QuantileLoss",
    ),
    "modules": (
        "Dropout",
        "ELU",
        "GELU",
        "Identity",
        "LayerNorm",
        "LeakyReLU",
        "Linear",
        "MLP",
        "Module",
        "Normalize",
        "ReLU",
        "Sequential",
        "SiLU",
        "Sigmoid",
        "Softmax",
        "Softplus",
        "Tanh",
    ),
    "optim": ("Adagrad", "Adam", "AdamW", "RMSprop", "SGD"),
    "predictor": ("Predictor",),
    "progress": ("ProgressBar",),
    "saving": ("ModelCheckpoint", "SaveState"),
    "schedules": (
        "Constant",
        "Cosine",
        "Exponential",
        "LinearWarmup",
        "OneCycle",
        "ReduceOnPlateau",
        "StepDecay",
    ),
    "trainer": ("Trainer",),
}
_FILES = {name: file for file, names in _NAMES.items() for name in names}
# file: the library without which there is nothing in it
_NEEDS = {"estimators": "sklearn", "exchange.with_skl2onnx": "sklearn", "exchange.with_torch": "torch"}

__all__ = [
    "Adagrad",
    "Adam",
    "AdamW",
    "BCEWithLogitsLoss",
    "BackendError",
    "CSVFile",
    "Callback",
    "Constant",
    "Cosine",
    "CrossEntropyLoss",
    "DataError",
    "DataWarning",
    "Dataset",
    "DivergenceError",
    "Dropout",
    "ELU",
    "EarlyStopping",
    "Exponential",
    "GELU",
    "GaussianNoise",
    "GradientCheckError",
    "GradientReport",
    "History",
    "HorizontalFlip",
    "HuberLoss",
    "Identity",
    "L1Loss",
    "LayerNorm",
    "LeakyReLU",
    "Linear",
    "LinearWarmup",
    "LogCoshLoss",
    "MLP",
    "MLPClassifier",
    "MLPRegressor",
    "MSELoss",
    "MetricsFile",
    "Mixup",
    "ModelCheckpoint",
    "ModelFileError",
    "Module",
    "Normalize",
    "OneCycle",
    "PerformanceWarning",
    "PoissonLoss",
    "Predictor",
    "ProgressBar",
    "QuantileLoss",
    "RMSprop",
    "ReLU",
    "ReduceOnPlateau",
    "ResumeError",
    "SGD",
    "SaveModel",
    "SaveState",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softplus",
    "StepDecay",
    "Tanh",
    "TensorBoard",
    "Trainer",
    "__version__",
    "check_gradients",
    "export_c",
    "export_npz",
    "export_onnx",
    "from_torch",
    "get_backend",
    "import_onnx",
    "init",
    "load",
    "load_model",
    "register_skl2onnx",
    "save",
    "set_backend",
    "to_torch",
    "use_backend",
]


# What lacks its library still says so when it is asked for by name; but `import *`, `help` and the like ask for all.
_LACKING = {file for file, library in _NEEDS.items() if not _is_installed(library)}
__all__ = [name for name in __all__ if _FILES.get(name) not in _LACKING]


def __getattr__(name: str) -> Any:
    if name == "init":
        return importlib.import_module(".init", __name__)
    if name not in _FILES:
        raise AttributeError(f"module 'fastmlp' has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_FILES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
