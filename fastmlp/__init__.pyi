# Public names, written once: __init__.py reads this file, and imports a name from its file when it is first used.
# "needs" names the library without which a name is left out of __all__.

from . import datasets as datasets
from . import distributed as distributed
from ._common.errors import BackendError as BackendError
from ._common.errors import DataError as DataError
from ._common.errors import DataWarning as DataWarning
from ._common.errors import DivergenceError as DivergenceError
from ._common.errors import GradientCheckError as GradientCheckError
from ._common.errors import MappedFileError as MappedFileError
from ._common.errors import ModelFileError as ModelFileError
from ._common.errors import PerformanceWarning as PerformanceWarning
from ._common.errors import RankError as RankError
from ._common.errors import ResumeError as ResumeError
from ._kernels import get_backend as get_backend
from ._kernels import set_backend as set_backend
from ._kernels import use_backend as use_backend
from .callbacks import Callback as Callback
from .callbacks import CSVFile as CSVFile
from .callbacks import EarlyStopping as EarlyStopping
from .callbacks import History as History
from .callbacks import MetricsFile as MetricsFile
from .callbacks import ModelCheckpoint as ModelCheckpoint
from .callbacks import ProgressBar as ProgressBar
from .callbacks import SaveModel as SaveModel
from .callbacks import SaveState as SaveState
from .callbacks import TensorBoard as TensorBoard
from .callbacks.trackers import MLflow as MLflow
from .callbacks.trackers import WandB as WandB
from .datasets import Dataset as Dataset
from .datasets import load as load
from .estimators import MLPClassifier as MLPClassifier  # needs sklearn
from .estimators import MLPRegressor as MLPRegressor  # needs sklearn
from .estimators.skl2onnx import register_skl2onnx as register_skl2onnx  # needs sklearn
from .exchange.c import export_c as export_c
from .exchange.npz import export_npz as export_npz
from .exchange.onnx import export_onnx as export_onnx
from .exchange.onnx import import_onnx as import_onnx
from .exchange.pytorch import from_torch as from_torch  # needs torch
from .exchange.pytorch import to_torch as to_torch  # needs torch
from .gradcheck import GradientReport as GradientReport
from .gradcheck import check_gradients as check_gradients
from .inference.predictor import Predictor as Predictor
from .losses import Loss as Loss
from .losses import register_loss as register_loss
from .losses.bce import BCEWithLogitsLoss as BCEWithLogitsLoss
from .losses.cross_entropy import CrossEntropyLoss as CrossEntropyLoss
from .losses.focal import BinaryFocalLoss as BinaryFocalLoss
from .losses.focal import FocalLoss as FocalLoss
from .losses.huber import HuberLoss as HuberLoss
from .losses.l1 import L1Loss as L1Loss
from .losses.log_cosh import LogCoshLoss as LogCoshLoss
from .losses.mse import MSELoss as MSELoss
from .losses.poisson import PoissonLoss as PoissonLoss
from .losses.quantile import QuantileLoss as QuantileLoss
from .modules import MLP as MLP
from .modules import Activation as Activation
from .modules import Dropout as Dropout
from .modules import LayerNorm as LayerNorm
from .modules import Linear as Linear
from .modules import Module as Module
from .modules import Normalize as Normalize
from .modules import Sequential as Sequential
from .modules import Softmax as Softmax
from .modules import init as init
from .modules import register_activation as register_activation
from .modules import register_module as register_module
from .modules.activations.elu import ELU as ELU
from .modules.activations.gelu import GELU as GELU
from .modules.activations.hardswish import Hardswish as Hardswish
from .modules.activations.identity import Identity as Identity
from .modules.activations.leaky_relu import LeakyReLU as LeakyReLU
from .modules.activations.mish import Mish as Mish
from .modules.activations.relu import ReLU as ReLU
from .modules.activations.selu import SELU as SELU
from .modules.activations.sigmoid import Sigmoid as Sigmoid
from .modules.activations.silu import SiLU as SiLU
from .modules.activations.softplus import Softplus as Softplus
from .modules.activations.tanh import Tanh as Tanh
from .modules.binned_linear import BinnedLinear as BinnedLinear
from .modules.saving import load_model as load_model
from .modules.saving import save as save
from .modules.scale import Scale as Scale
from .optim import Constant as Constant
from .optim import Cosine as Cosine
from .optim import Exponential as Exponential
from .optim import LinearWarmup as LinearWarmup
from .optim import OneCycle as OneCycle
from .optim import Optimizer as Optimizer
from .optim import ReduceOnPlateau as ReduceOnPlateau
from .optim import StepDecay as StepDecay
from .optim import register_optimizer as register_optimizer
from .optim.adagrad import Adagrad as Adagrad
from .optim.adam import Adam as Adam
from .optim.adam import AdamW as AdamW
from .optim.lion import Lion as Lion
from .optim.radam import RAdam as RAdam
from .optim.rmsprop import RMSprop as RMSprop
from .optim.sgd import SGD as SGD
from .tabular import ColumnEncoder as ColumnEncoder  # needs sklearn
from .tabular import TabularClassifier as TabularClassifier  # needs sklearn
from .tabular import TabularRegressor as TabularRegressor  # needs sklearn
from .training.augmentation import GaussianNoise as GaussianNoise
from .training.augmentation import HorizontalFlip as HorizontalFlip
from .training.augmentation import Mixup as Mixup
from .training.calibration import calibration_error as calibration_error
from .training.fit_many import fit_many as fit_many
from .training.single_steps import Stepper as Stepper
from .training.single_steps import TargetNetwork as TargetNetwork
from .training.trainer import Trainer as Trainer

__version__: str
