"""Measures all sections of docs/benchmarks.md in one go, or those that are named; the others stay as they are.

    python benchmarks/run.py                     # all: about ten minutes on two quiet cores
    python benchmarks/run.py many training       # these two
    python benchmarks/run.py --quick scaling     # small sizes, printed and not written: whether it runs

Each section runs in a process of its own, so that none sees what another left warm. A section that fails or takes too long
is named, and what the page had of it stays. Peers that are not installed are left out by name.
"""

import argparse
import importlib
import os
import platform
import re
import subprocess
import sys
import time
from datetime import date
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "benchmarks.md"
LIMIT = 600  # seconds a section
sys.path.insert(0, str(HERE))

HEAD = """# Benchmarks

Written by `make bench` (`benchmarks/run.py`). Medians; peers take turns with gradfit in one process where calls are short, and
ratio columns are medians of the ratios round by round, so that a slow moment of the machine hits both. Each section says when
and where it was measured; `gradfit bench "y = ..."` measures a model of your own on your own machine.
"""
MARK = re.compile(r"^<!-- section: (\w+) -->\n", re.MULTILINE)


class Section(NamedTuple):
    """A part of the page: its title, the module and what it calls there for lines of Markdown, function and arguments.

    `quick` are such calls that only show that it runs; none where there is nothing small enough.
    """

    title: str
    module: str
    calls: tuple[tuple, ...]
    quick: tuple[tuple, ...] = ()


NATIVE = ("native",)
SECTIONS = {
    "machine": Section("Machine", "run", (("machine",),), (("machine",),)),
    "small": Section("Small fits, warm", "small_fits", (("small_fits",),), (("small_fits", 2, 2),)),
    "many": Section("Many fits", "many", (("lines",),)),
    "tensor": Section(
        "Many fits in torch", "many_tensor", (("many_tensor", 100_000),), (("many_tensor", 200, 25, 1),)
    ),
    "scaling": Section("As work grows", "scaling", (("lines",),), (("lines", (1000,)),)),
    "large": Section("One fit over much data", "large", (("lines",),)),
    "training": Section("Training", "training", (("training",),)),
    "networks": Section("Small networks", "network", (("network",),)),
    "search": Section(
        "No start values",
        "search",
        (("certified", NATIVE), ("study", NATIVE, 3, 0)),
        (("study", NATIVE, 1, 0),),
    ),
    "digits": Section("Digits", "small_fits", (("certified",),), (("certified",),)),
    "reading": Section("Reading", "small_fits", (("reading",),), (("reading",),)),
    "startup": Section("Start-up", "small_fits", (("start_up",),), (("start_up",),)),
}


def machine() -> list[str]:
    """The machine, what one core reaches at most, and the versions of all that is compared."""
    from peers import versions

    from gradfit import __version__
    from gradfit.bench import Machine
    from gradfit.native.compiled import lanes, processor
    from gradfit.native.peak import peak

    here = Machine.here()
    return [
        f"- Processor: {here.processor} ({processor().split()[0]}), {here.cores} cores, {lanes()} numbers of 64 bits in a register",
        f"- Memory: {here.memory / 1e9:.0f} GB",
        f"- Peak: {peak(0.5):.1f} GFLOP/s a core in double precision, fused multiply-adds in registers, measured",
        f"- {platform.system()} {platform.release()}, Python {platform.python_version()}, gradfit {__version__}",
        f"- {versions()}",
    ]


# ---------------------------------------------------------------------------- the page


def parts(page: str) -> dict[str, str]:
    """Return the sections of a page by name."""
    split = MARK.split(page)
    return {name: text.strip() for name, text in zip(split[1::2], split[2::2], strict=True)}


def assembled(sections: dict[str, str]) -> str:
    """Return the page of these sections, in their order; those that are not known any more are dropped."""
    text = [HEAD]
    text += [f"<!-- section: {name} -->\n{sections[name]}\n" for name in SECTIONS if name in sections]
    return "\n".join(text)


def headed(name: str, lines: list[str], seconds: float) -> str:
    """Return a section's text: its title, its lines, and when and where they were measured."""
    from gradfit.bench import Machine

    here = Machine.here()
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    told = f"Measured {date.today()} on {here.processor}, {here.cores} cores{load}, in {seconds:.0f} s."
    return "\n".join([f"## {SECTIONS[name].title}", "", *lines, "", told])


def written(page: Path, name: str, text: str) -> None:
    """Put a section into the page, which is whole at any moment."""
    kept = parts(page.read_text()) if page.exists() else {}
    part = page.with_suffix(".part")
    part.write_text(assembled({**kept, name: text}))
    part.replace(page)


# ---------------------------------------------------------------------------- the run


def measured(name: str, *, quick: bool) -> tuple[str, str]:
    """Return a section's text, or why there is none."""
    section = SECTIONS[name]
    if not (HERE / f"{section.module}.py").exists():
        return "", f"benchmarks/{section.module}.py is not there"
    if quick and not section.quick:
        return "", "it has no small sizes"
    command = [sys.executable, __file__, "--one", *(["--quick"] if quick else []), name]
    began = time.perf_counter()
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=LIMIT)
    except subprocess.TimeoutExpired:
        return "", f"it takes more than {LIMIT} s"
    if done.returncode:
        return "", (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
    return headed(name, done.stdout.rstrip().splitlines(), time.perf_counter() - began), ""


def lines_of(name: str, *, quick: bool) -> list[str]:
    """Run a section here."""
    section = SECTIONS[name]
    module, lines = importlib.import_module(section.module), []
    for function, *arguments in section.quick if quick else section.calls:
        lines += [*([""] if lines else []), *getattr(module, function)(*arguments)]
    return lines


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sections", nargs="*", metavar="section", help=", ".join(SECTIONS))
    parser.add_argument(
        "--quick", action="store_true", help="small sizes; the sections are printed, not written"
    )
    parser.add_argument("--page", type=Path, default=PAGE, help="where to write")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    told = parser.parse_args(words)
    for name in told.sections:
        if name not in SECTIONS:
            parser.error(f"there is no section {name}; there are {', '.join(SECTIONS)}")
    if told.one:
        print("\n".join(lines_of(told.sections[0], quick=told.quick)))
        return 0
    failed = []
    for name in told.sections or SECTIONS:
        text, why = measured(name, quick=told.quick)
        print(f"{name}: {why or 'done'}", file=sys.stderr, flush=True)
        if why:
            failed.append(name)
        elif told.quick:
            print(f"{text}\n")
        else:
            written(told.page, name, text)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
