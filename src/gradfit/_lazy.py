"""Heavy libraries, and the front ends behind a result's methods, imported on first use.

`import gradfit` and `gradfit --help` must not pay for torch (1.5 s), scipy (0.3 s), polars or matplotlib. Every module
takes them from here: `from gradfit._lazy import torch`. A stand-in becomes the module at the first attribute that is
asked of it, so use it inside functions, not as a base class or decorator at module level.
"""

import importlib
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import matplotlib
    import narwhals
    import polars
    import safetensors
    import safetensors.numpy as safetensors_numpy
    import torch
    from llvmlite import binding as llvm
    from llvmlite import ir
    from scipy import linalg, optimize, spatial, special, stats

    lapack: Any  # compiled, without stubs


class _Later(ModuleType):
    """Stands for a module until an attribute is asked for."""

    def __init__(self, name: str, extra: str = "") -> None:
        super().__init__(name)
        self.__dict__["_extra"] = extra

    def __getattr__(self, attribute: str) -> object:
        if attribute.startswith("__") and attribute.endswith("__"):
            raise AttributeError(attribute)
        try:
            module = importlib.import_module(self.__name__)
        except ModuleNotFoundError as missing:
            extra = self.__dict__["_extra"]
            if not extra or missing.name != self.__name__.split(".")[0]:
                raise
            raise ModuleNotFoundError(
                f"{self.__name__} is not installed; run: pip install 'gradfit[{extra}]'", name=missing.name
            ) from missing
        value = getattr(module, attribute)
        self.__dict__[attribute] = value  # the next look-up costs what a module's does
        return value


if not TYPE_CHECKING:
    torch = _Later("torch")
    polars = _Later("polars")
    narwhals = _Later("narwhals")
    matplotlib = _Later("matplotlib")
    linalg = _Later("scipy.linalg")
    optimize = _Later("scipy.optimize")
    spatial = _Later("scipy.spatial")
    special = _Later("scipy.special")
    stats = _Later("scipy.stats")
    lapack = _Later("scipy.linalg.lapack")
    ir = _Later("llvmlite.ir")
    llvm = _Later("llvmlite.binding")
    safetensors = _Later("safetensors")
    safetensors_numpy = _Later("safetensors.numpy")


def stage(name: str) -> ModuleType:
    """Return a stage that is imported when it is called for.

    It serves methods that are sugar, result.report() is report.write(result), and commands that must not wait for others.

    The arrows of the import contract point down; these few calls by name are the only ones that point up.
    """
    return importlib.import_module(f"gradfit.{name}")


__all__ = [
    "ir", "lapack", "linalg", "llvm", "matplotlib", "narwhals", "optimize", "polars", "safetensors", "safetensors_numpy", "spatial", "special", "stage", "stats", "torch",
]  # fmt: skip
