"""Stubs of the packages that a light Python 3.10 lacks (torch, ROS): enough to import; they raise
when used.
"""

import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import ClassVar

# Called while modules are imported: decorators and constants.
AT_IMPORT = {"no_grad", "inference_mode", "tensor", "QoSProfile", "Clock"}


class _Kind(type):
    """The class of every stub: its attributes are stubs, and a call raises."""

    def __getattr__(cls, name: str):
        if name.startswith("__"):
            raise AttributeError(name)
        return stub(f"{cls.__qualname__}.{name}")

    def __call__(cls, *args, **kwargs):
        if cls.__qualname__.rpartition(".")[2] in AT_IMPORT:
            return lambda function: function
        raise RuntimeError(f"{cls.__qualname__} is a stub, which can only be imported")


def stub(name: str) -> type:
    return _Kind(name, (), {"__qualname__": name})


class StubModule(ModuleType):
    __path__: ClassVar[list[str]] = []

    def __getattr__(self, name: str):
        if name.startswith("__"):
            raise AttributeError(name)
        made = stub(f"{self.__name__}.{name}")
        setattr(self, name, made)
        return made


class Stubs(MetaPathFinder, Loader):
    """Finds every module of the ``packages``, last of all finders: what is installed is the real
    one.
    """

    def __init__(self, packages: set[str]):
        self.packages = packages

    def find_spec(self, name, path=None, target=None):
        return (
            ModuleSpec(name, self, is_package=True)
            if name.partition(".")[0] in self.packages
            else None
        )

    def create_module(self, spec):
        return StubModule(spec.name)

    def exec_module(self, module):
        pass


def install(packages: set[str]) -> None:
    sys.meta_path.append(Stubs(packages))
