"""Files that a command is asked to write: looked at before the work, written after it."""

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from gradfit._lazy import stage
from gradfit.errors import OptionError
from gradfit.outputs import target

FIGURES = (".png", ".svg", ".pdf")


def targets(outputs: Mapping[str, str | None], *, source: str, force: bool) -> dict[str, Path]:
    """Return the files to write, after a look at whether they can be.

    Parameters
    ----------
    outputs : mapping of str to str or None
        What is written -> where; None is not wanted. A "figure" must end as figures do.
    source : str
        The file that is read, which is never overwritten.
    force : bool
        Whether files that are there may be replaced.

    Raises
    ------
    OptionError
        If one cannot be written, is the file that is read, or is named twice.
    """
    files: dict[str, Path] = {}
    for kind, path in outputs.items():
        if path is None:
            continue
        if kind == "figure":
            figure_ending(path)
        file = target(path, force=force)
        if source != "-" and _same(file, Path(source)):
            raise OptionError(
                f"{path} is the file that is read, and would be overwritten", remedy="Name another file"
            )
        if file in files.values():
            raise OptionError(f"{path} is named for two outputs", remedy="Name a file for each")
        files[kind] = file
    return files


def _same(file: Path, other: Path) -> bool:
    return file.exists() and other.exists() and file.samefile(other)


def figure_ending(path: str) -> str:
    """Return the ending of a figure's name.

    Raises
    ------
    OptionError
        If it is none that a figure has.
    """
    ending = Path(path).suffix.lower()
    if ending not in FIGURES:
        seen = f"ends in {ending!r}" if ending else "has no ending"
        raise OptionError(
            f"{path} {seen}, and a figure is .png, .svg or .pdf", remedy=f"Name it {Path(path).stem}.png"
        )
    return ending


def figure_bytes(figure: object, ending: str) -> bytes:
    """Return a matplotlib figure as a file of that kind holds it."""
    with TemporaryDirectory() as folder:
        file = Path(folder) / f"figure{ending}"
        stage("figures").save(figure, file)
        return file.read_bytes()
