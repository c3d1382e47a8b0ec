"""Metadata, extras and the command line's entry point; tool settings are in pyproject.toml."""

from pathlib import Path

from setuptools import find_packages, setup

here = Path(__file__).parent

extras = {
    # For any driver since CUDA 12.
    "cuda": ["numba-cuda[cu12]>=0.28"],
    "plot": ["matplotlib>=3.7"],
    "tables": ["pandas>=2.0", "pyarrow>=14"],
}
# Pinned: the CPU build has this number; a later torch brings gigabytes of CUDA libraries along.
peers = ["torch==2.13.0", "jax>=0.4.30", "scikit-learn>=1.3", "threadpoolctl>=3.1"]
test = [
    *extras["plot"], *extras["tables"],
    "hypothesis>=6.90", "mpmath>=1.3", "pytest>=8.0", "pytest-benchmark>=4.0", "pytest-timeout>=2.2",
    "numba-cuda>=0.28; platform_system == 'Linux'",  # its simulator needs no GPU
    "threadpoolctl>=3.1",
]  # fmt: skip

setup(
    name="fastmlp",
    version="0.1.0",
    description="Multilayer perceptrons from scratch: hand-written gradients, Numba kernels, one small package",
    long_description=(here / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="BSD-3-Clause",
    license_files=["LICENSE"],
    author="The fastmlp founders",
    python_requires=">=3.10",
    packages=find_packages(include=["fastmlp", "fastmlp.*"]),
    package_data={"fastmlp": ["py.typed"], "fastmlp.datasets": ["data/*"]},
    install_requires=[
        "numpy>=1.26",
        "numba>=0.63",  # the first for Python 3.14
        "safetensors>=0.4.3",
        "pooch>=1.8",
        "tqdm>=4.65",
    ],
    extras_require={
        **extras,
        "peers": peers,
        "test": test,
        "dev": [*test, "build>=1.0", "mypy>=1.8", "ruff>=0.6"],
    },
    entry_points={"console_scripts": ["fastmlp = fastmlp.cli:main"]},
    zip_safe=False,
    keywords="mlp neural-network backpropagation numba simd",
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Education",
        "Intended Audience :: Science/Research",
        "Operating System :: OS Independent",
        "Programming Language :: Python :: 3",
        *(f"Programming Language :: Python :: 3.{minor}" for minor in range(10, 15)),
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
)
