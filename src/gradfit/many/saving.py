"""Many fits as a file: one row a fit."""

import json
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from gradfit._version import __version__
from gradfit.errors import OptionError
from gradfit.notation import listing
from gradfit.outputs import target, write_whole

if TYPE_CHECKING:
    from gradfit.many.result import ManyResult

ABOUT = "gradfit.fits"  # under which a Parquet file keeps the model and the options


def save(many: "ManyResult", path: str | Path, *, force: bool = False) -> Path:
    """Write one row a fit to a file that is there whole or not at all, and return its path.

    Raises
    ------
    OptionError
        If it cannot be written, or its ending names no format.
    """
    ending = Path(path).suffix.lower()
    frame = many.to_frame()
    stream = BytesIO()
    writers: dict[str, Callable[[], object]] = {
        ".parquet": lambda: frame.write_parquet(stream, metadata={ABOUT: json.dumps(about(many))}),
        ".csv": lambda: frame.write_csv(stream),
        ".feather": lambda: frame.write_ipc(stream),
    }
    if ending not in writers:
        raise OptionError(
            f"{path} does not end in {listing(list(writers), 'or')}",
            remedy=f"Name it {Path(path).stem}.parquet",
        )
    file = target(path, force=force)
    writers[ending]()
    write_whole({file: stream.getvalue()})
    return file


def about(many: "ManyResult") -> dict[str, object]:
    """Return what was fitted and how, as JSON writes it."""
    return {
        "gradfit": __version__,
        "model": many.formula,
        "response": many.model.response,
        "inputs": list(many.model.inputs),
        "fits": len(many),
        "shape": list(many.shape),
        "loss": "poisson" if many.counts else many.loss_used.name,
        "sigma": many.absolute,
        "bounds": {n: [_finite(b) for b in p.bounds] for n, p in many.params.items() if not p.fixed},
        "fixed": [n for n, p in many.params.items() if p.fixed],
        "executor": many.executor,
        "how": list(many.how),
        "source": many.source.about,
        "status": many.counted(),
    }


def _finite(bound: float) -> float | None:
    return bound if abs(bound) < float("inf") else None
