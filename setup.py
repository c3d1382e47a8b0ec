"""Metadata, extras, extension modules and the entry point of the command line; tool settings are in pyproject.toml."""

import glob
import os
import re
import subprocess
import sys
from pathlib import Path

from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext

here = Path(__file__).parent
REPOSITORY = "https://github.com/fastmlp/fastmlp"
VERSION = re.search(r'^__version__ = "(.+)"$', (here / "fastmlp/__init__.py").read_text(encoding="utf-8"), re.M)[1]
_OPTIONS = (
    ["/O2"]
    if sys.platform == "win32"
    else ["-O3", "-ffp-contract=off", "-fno-math-errno", "-g0", "-fvisibility=hidden"]
)

# FASTMLP_BUILD: 0 to compile no kernels; 1 for this processor's best level; all, for every level. The
# default is 1, but 0 for an editable installation.
asked = os.environ.get("FASTMLP_BUILD", "").strip()
if asked not in ("", "0", "1", "all"):
    raise SystemExit(f"FASTMLP_BUILD is {asked!r}; expected 0, 1 or all.")
may_compile = asked != "0" and sys.platform != "win32"  # the build has no command for Microsoft's linker


def long_description() -> str:
    """Return README.md with absolute links, as the page of a package index has no other files."""
    text = (here / "README.md").read_text(encoding="utf-8")
    return re.sub(r"\]\((?!https?://|#)", f"]({REPOSITORY}/blob/main/", text)


def extensions() -> list[Extension]:
    """Return the extension module: calls of compiled kernels, and the driver of `fastmlp.Predictor`."""
    return [
        Extension(
            "fastmlp._kernels.compiled.native",
            ["fastmlp/_kernels/compiled/native.pyx"],
            depends=glob.glob("fastmlp/_kernels/compiled/*.pxi", root_dir=here),
            define_macros=[("NPY_NO_DEPRECATED_API", "NPY_1_7_API_VERSION"), ("CYTHON_WITHOUT_ASSERTIONS", None)],
            extra_compile_args=_OPTIONS,
        )
    ]


class OptionalExtensions(build_ext):
    """Build the extension modules and compile the kernels if possible; without them the package uses Numba."""

    def run(self) -> None:
        self._extensions()
        editable = self.inplace or getattr(self, "editable_mode", False)
        if may_compile and self.extensions and (asked or not editable):
            self._kernels(["--all"] if asked == "all" else [])

    def _kernels(self, levels: list[str]) -> None:
        """Compile the kernels for this processor, or for all levels of its machine."""
        folder = Path(self.get_ext_fullpath("fastmlp._kernels.compiled.native")).parent
        command = [sys.executable, "-m", "fastmlp._kernels.compiled.build", *levels, "--out", str(folder.resolve())]
        # pip's environment for the build is on the path already.
        paths = os.pathsep.join(filter(None, (str(here), os.environ.get("PYTHONPATH"))))
        try:
            subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": paths})
        except (OSError, subprocess.CalledProcessError) as error:
            if os.environ.get("FASTMLP_REQUIRE_AOT"):
                raise
            print(
                f"fastmlp: the kernels were not compiled ({error}). The package compiles them by Numba "
                "when they are first used.",
                file=sys.stderr,
            )

    def _extensions(self) -> None:
        try:
            import numpy
            from Cython.Build import cythonize

            self.extensions = cythonize(self.extensions, quiet=True)
            for extension in self.extensions:
                extension._needs_stub = False
                extension.include_dirs.append(numpy.get_include())
            self.parallel = self.parallel or os.cpu_count()
            super().run()
        except Exception as error:
            if os.environ.get("FASTMLP_REQUIRE_AOT"):
                raise
            for extension in self.extensions:
                extension.optional = True  # an editable install would fail on missing files
                Path(self.get_ext_fullpath(extension.name)).unlink(missing_ok=True)  # built from an older source
            print(
                f"fastmlp: the extension module was not compiled ({type(error).__name__}: {error}). "
                "The package works without it through Numba; with a C compiler (Debian: apt install gcc python3-dev) "
                "it starts, trains small models and predicts faster.",
                file=sys.stderr,
            )
            self.extensions = []


# The oldest and the newest version of Numba with which the tests of the kernels were run; .ci/extended repeats them
# with the oldest one, which is also the first for Python 3.14. Later versions may be installed.
OLDEST_NUMBA, NEWEST_NUMBA = "0.63.1", "0.68.1"

extras = {
    # For drivers from CUDA 12 on.
    "cuda": ["numba-cuda[cu12]>=0.28"],
    "completion": ["shtab>=1.7"],
    "dask": ["dask[distributed]>=2024.1"],
    "mlflow": ["mlflow-skinny>=2.15", "sqlalchemy>=1.4", "alembic>=1.10"],
    "mpi": ["mpi4py>=4.0", "mpich>=4.3"],
    "onnx": ["onnx>=1.16"],
    "plot": ["matplotlib>=3.7"],
    "report": ["plotly>=5.18"],
    "sklearn": ["scikit-learn>=1.6", "scipy>=1.10"],
    "tensorboard": ["tensorboardX>=2.6"],
    "wandb": ["wandb>=0.19"],
    "tables": ["pandas>=2.0", "pyarrow>=14", "scikit-learn>=1.6", "scipy>=1.10"],
}
# Pinned to the CPU build, as later releases of torch install gigabytes of CUDA libraries.
peers = [
    *extras["onnx"], *extras["sklearn"],
    "torch==2.13.0", "jax>=0.4.30", "onnxruntime>=1.17", "threadpoolctl>=3.1",
]  # fmt: skip
test = [
    *extras["completion"], *extras["dask"], *extras["onnx"], *extras["plot"], *extras["report"], *extras["sklearn"],
    *extras["tables"], *extras["tensorboard"],
    "onnxruntime>=1.17", "polars>=1.0", "skl2onnx>=1.18", "skops>=0.11",
    "hypothesis>=6.90", "mpmath>=1.3",
    "pytest>=8.0", "pytest-benchmark>=4.0", "pytest-timeout>=2.2", "pytest-xdist>=3.5",
    "numba-cuda>=0.28; platform_system == 'Linux'",  # for its simulator, which needs no GPU
    "greenlet>=3.0",  # threads of the simulator in tests/simt.py
    "threadpoolctl>=3.1",
]  # fmt: skip
# The site runs the examples. MkDocs 2 has another plugin interface.
docs = [
    *extras["onnx"], *extras["plot"], *extras["sklearn"], *extras["tables"], "onnxruntime>=1.17",
    "mkdocs>=1.6,<2", "mkdocs-material>=9.5,<10", "mkdocstrings[python]>=0.27", "latex2mathml>=3.77",
]  # fmt: skip

setup(
    name="fastmlp",
    version=VERSION,
    description="Multilayer perceptrons from scratch: hand-written gradients, Numba kernels, one small package",
    long_description=long_description(),
    long_description_content_type="text/markdown",
    license="BSD-3-Clause",
    license_files=["LICENSE"],
    author="The fastmlp founders",
    python_requires=">=3.10",
    # Makes an editable install add a folder to the path instead of an import hook. A hook comes after the folder of
    # cached kernels that an uninstalled copy leaves behind.
    package_dir={"": "."},
    packages=find_packages(include=["fastmlp", "fastmlp.*"]),
    package_data={"fastmlp": ["py.typed", "*.pyi"], "fastmlp.datasets": ["data/*"], "fastmlp.distributed": ["*.pyi"]},
    install_requires=[
        "numpy>=1.26",
        f"numba>={OLDEST_NUMBA}",
        "safetensors>=0.4.3",
        "pooch>=1.8",
        "platformdirs>=2.5",
        "tqdm>=4.65",
        "tomli>=2.0; python_version < '3.11'",
    ],
    setup_requires=[f"numba>={OLDEST_NUMBA}"] if may_compile and "build_ext" not in sys.argv else [],
    extras_require={
        **extras,
        "peers": peers,
        "test": test,
        "docs": docs,
        "dev": [*test, "build>=1.0", "cython>=3.1", "import-linter>=2.0", "mypy>=1.8", "pre-commit>=3.5", "ruff>=0.6"],
    },
    entry_points={"console_scripts": ["fastmlp = fastmlp.cli:main"]},
    ext_modules=extensions(),
    cmdclass={"build_ext": OptionalExtensions},
    zip_safe=False,
    url=REPOSITORY,
    project_urls={
        "Documentation": f"{REPOSITORY}/tree/main/docs",
        "Changelog": f"{REPOSITORY}/blob/main/CHANGELOG.md",
        "Issues": f"{REPOSITORY}/issues",
    },
    keywords="mlp multilayer-perceptron neural-network backpropagation tabular-data scikit-learn numba simd onnx",
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Developers",
        "Intended Audience :: Education",
        "Intended Audience :: Science/Research",
        "Operating System :: OS Independent",
        "Programming Language :: Cython",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3 :: Only",
        "Programming Language :: Python :: Implementation :: CPython",
        *(f"Programming Language :: Python :: 3.{minor}" for minor in range(10, 15)),
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Topic :: Software Development :: Libraries :: Python Modules",
        "Typing :: Typed",
    ],
)
