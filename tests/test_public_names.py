import importlib
import subprocess
import sys
import types

import pytest

import fastmlp as fm
from fastmlp._common.installed import is_installed
from fastmlp.modules.activations import activation_types
from fastmlp.optim import optimizer_types

HEAVY = ["numba", "cuda", "matplotlib", "sklearn", "torch", "safetensors", "tqdm", "pandas", "scipy", "pooch"]
NAMES = """
load Dataset save load_model set_backend use_backend History check_gradients init __version__
Trainer Stepper TargetNetwork
Module Linear Softmax LayerNorm Normalize
Dropout Sequential MLP CrossEntropyLoss MSELoss L1Loss HuberLoss BCEWithLogitsLoss
Constant StepDecay Exponential Cosine OneCycle LinearWarmup ReduceOnPlateau
BackendError DataError DivergenceError GradientCheckError MappedFileError ModelFileError
"""


def run(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_import_is_light():
    code = (
        "import sys, fastmlp\n"
        f"print([name for name in sys.modules if name.split('.')[0] in {HEAVY!r}])\n"
        "print('fastmlp.datasets' in sys.modules)"
    )
    assert run(code).split("\n")[:2] == ["[]", "False"]


def test_using_the_numpy_backend_is_light():
    code = (
        "import sys, numpy as np, fastmlp as fm\n"
        "with fm.use_backend('numpy'):\n"
        "    model, loss = fm.MLP(3, [4], 2, rng=0), fm.CrossEntropyLoss()\n"
        "model.backward(loss.backward(model.forward(np.ones((2, 3))), [0, 1]))\n"
        "fm.Adam().step(model); fm.Trainer\n"
        f"print([name for name in sys.modules if name.split('.')[0] in {HEAVY!r}])\n"
        "print('fastmlp.datasets' in sys.modules)"
    )
    assert run(code).split("\n")[:2] == ["[]", "False"]


@pytest.mark.parametrize("name", fm.__all__)
def test_each_name_is_there(name):
    assert getattr(fm, name) is not None and name in dir(fm)


def test_the_package_of_data_sets_is_there():
    code = "import fastmlp as fm; print(fm.datasets.pack.__name__, 'pandas' in __import__('sys').modules)"
    assert run(code) == "pack False\n"


def test_names_of_the_issue():
    activations = {kind.__name__ for kind in activation_types()}
    optimizers = {kind.__name__ for kind in optimizer_types().values()}
    assert {*NAMES.split(), *activations, *optimizers} <= set(fm.__all__)
    lacking = {name for name, (_, library) in fm._NAMES.items() if library and not is_installed(library)}
    assert set(fm.__all__) == {*fm._NAMES, "__version__"} - lacking


def test_without_the_libraries_of_extras():
    code = (
        "import sys, inspect\n"
        "hidden = 'cuda matplotlib onnx onnxruntime pandas pyarrow skl2onnx sklearn tensorboardX torch'.split()\n"
        "sys.modules.update(dict.fromkeys(hidden))\n"
        "from fastmlp import *\n"
        "import fastmlp\n"
        "print(*sorted(set(fastmlp._NAMES) - set(globals())))\n"
        "print(*sorted(set(fastmlp._NAMES) - set(dict(inspect.getmembers(fastmlp)))))\n"
        "for name in ('MLPClassifier', 'register_skl2onnx', 'to_torch'):\n"
        "    try:\n"
        "        getattr(fastmlp, name)\n"
        "    except (ImportError, fastmlp.BackendError) as error:\n"
        "        print(error)"
    )
    lacking = (
        "ColumnEncoder MLPClassifier MLPRegressor TabularClassifier TabularRegressor from_torch register_skl2onnx "
        "to_torch"
    )
    sklearn = "fastmlp.estimators needs scikit-learn, which is not installed: pip install 'fastmlp[sklearn]'."
    torch = "This needs the package torch, which is not installed: pip install torch."
    assert run(code).splitlines() == [lacking, lacking, sklearn, sklearn, torch]


def test_what_is_installed(tmp_path, monkeypatch):
    (tmp_path / "left_behind" / "__pycache__").mkdir(parents=True)
    (tmp_path / "one_file.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    assert importlib.import_module("left_behind").__file__ is None  # Python imports it as a namespace package
    del sys.modules["left_behind"]
    assert not is_installed("left_behind") and not is_installed("not_there_at_all")
    assert is_installed("one_file") and is_installed("numpy") and is_installed("math")
    monkeypatch.setitem(sys.modules, "made_by_hand", types.ModuleType("made_by_hand"))
    monkeypatch.setitem(sys.modules, "hidden", None)
    assert is_installed("made_by_hand") and not is_installed("hidden")


def test_an_unknown_name():
    with pytest.raises(AttributeError, match="module 'fastmlp' has no attribute 'Conv2d'"):
        fm.Conv2d  # noqa: B018
