"""From LLVM code to functions that run: optimised for this processor, kept on disk, loaded in a few milliseconds."""

import ctypes
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from gradfit import store
from gradfit._lazy import ir, llvm
from gradfit._version import __version__

LOADED = 256  # of one kind that stay in memory, 30 to 100 kB each; what was used longest ago goes, and is read from disk again
_LOCK = threading.RLock()  # LLVM's engine is built by one thread at a time


@dataclass(frozen=True, eq=False)
class Library:
    """Machine code in memory; it lives as long as this does."""

    engine: Any
    bytes: int
    from_disk: bool

    def function(self, name: str, arguments: Sequence[type]) -> Callable[..., int]:
        """Return a function by its name; its arguments are ctypes' c_void_p, c_int64 and c_double, its result an integer.

        Other threads run while it does.
        """
        address = self.engine.get_function_address(name)
        return ctypes.CFUNCTYPE(ctypes.c_int64, *arguments)(address)


@cache
def _started() -> None:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()


def _target() -> Any:
    """Return a description of this machine; an engine owns the one it is made with."""
    _started()
    return llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(),
        features=llvm.get_host_cpu_features().flatten(),
        opt=3,
        codemodel="jitdefault",
        jit=True,
    )


@cache
def processor() -> str:
    """Return what the machine code depends on: the processor, its features, and the compiler's version."""
    features = llvm.get_host_cpu_features().flatten()
    version = ".".join(str(part) for part in llvm.llvm_version_info)
    return f"{llvm.get_host_cpu_name()} {features} LLVM {version}"


@cache
def lanes(real: int = 64) -> int:
    """Return how many numbers of so many bits a register of this processor holds."""
    features = llvm.get_host_cpu_features()
    bits = 512 if features.get("avx512f") else 256 if features.get("avx2") else 128
    return bits // real


def library(key: str, write: Callable[["ir.Module"], None]) -> Library:
    """Return the machine code of the functions that `write` adds to a module.

    Parameters
    ----------
    key : str
        Says all that decides what is written; with the processor and the versions it is the name in the store on disk.
    """
    name = store.key_of(key, processor(), __version__, _own_source())
    with _LOCK:
        kept = store.load("native", name)
        if kept is not None:
            return Library(_loaded(kept), len(kept), from_disk=True)
        module = ir.Module(name)
        write(module)
        data = _optimised(str(module))
        store.save("native", name, data)
        return Library(_loaded(data), len(data), from_disk=False)


def is_kept(key: str) -> bool:
    """Return whether this code is on disk, so that nothing need be compiled."""
    return store.load("native", store.key_of(key, processor(), __version__, _own_source())) is not None


@cache
def _own_source() -> str:
    """Return a mark that changes with the code that writes code."""
    folder = Path(__file__).parent
    parts = sorted(folder.glob("*.py"))
    return " ".join(f"{p.name}:{p.stat().st_size}:{p.stat().st_mtime_ns}" for p in parts)


def _optimised(text: str) -> bytes:
    """Return the object file of a module.

    The code is written as it is to run: what is left is to take cells into registers and equal terms together. LLVM's own
    pipelines make nothing faster of it, take twice the time in all, and 0.4 MB a call that are never given back.
    """
    target = _target()
    module = llvm.parse_assembly(text)
    module.triple = llvm.get_process_triple()
    module.data_layout = str(target.target_data)
    passes = llvm.create_new_module_pass_manager()
    passes.add_sroa_pass()
    passes.add_simplify_cfg_pass()
    passes.add_new_gvn_pass()
    passes.add_instruction_combine_pass()
    passes.add_simplify_cfg_pass()
    passes.run(module, llvm.create_pass_builder(target, llvm.create_pipeline_tuning_options()))
    return bytes(target.emit_object(module))


def _loaded(data: bytes) -> Any:
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), _target())
    engine.add_object_file(llvm.ObjectFileRef.from_data(data))
    engine.finalize_object()
    return engine
