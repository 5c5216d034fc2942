"""A fit as it learns, as a moving picture: GIF, MP4, or one HTML page that needs nothing else."""

import base64
import importlib
import json
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from io import BytesIO
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gradfit.errors import OptionError
from gradfit.figures.way import Stage, Way, way_of
from gradfit.outputs import target, write_whole

if TYPE_CHECKING:
    from gradfit.result import FitResult

FRAMES = 60
SECONDS = 6.0
REST = 1.5  # seconds that the last frame stays
DOTS = 110  # to the inch
ENDINGS = (".gif", ".html", ".mp4")


@dataclass(frozen=True, eq=False)
class Film:
    """Frames (height, width, 4) of one size, what each shows, and how long it stays, in seconds."""

    frames: Sequence[NDArray[np.uint8]]
    captions: Sequence[str]
    seconds: float


def animate(
    result: "FitResult",
    path: str | Path,
    *,
    frames: int = FRAMES,
    seconds: float = SECONDS,
    force: bool = False,
) -> Path:
    """Write a moving picture of a fit as it learned, and return its path.

    At the left the curve moves to the readings; at the right the path runs over the level lines of the loss where two
    parameters are free, else the loss falls, with that of held-out rows where there are any. Steps are spaced evenly on
    a logarithmic axis, where the early fall of a loss is seen.

    Parameters
    ----------
    path : str or Path
        Ends in .gif, .html (one page, with a slider) or .mp4 (needs the program ffmpeg).
    frames : int
        At most so many.
    seconds : float
        How long it runs, before it rests on the end.
    force : bool
        Whether an existing file is overwritten.

    Raises
    ------
    OptionError
        If the fit took no steps, the name has another ending, or ffmpeg is not there for an MP4.

    Examples
    --------
    >>> import gradfit, tempfile
    >>> line = gradfit.fit("y = a*x + b", {"x": [0, 1, 2, 3], "y": [1.1, 2.9, 5.2, 6.8]}, start={"a": 0, "b": 0},
    ...                    solver="SGD", lr=0.1, epochs=50)
    >>> animate(line, f"{tempfile.mkdtemp()}/line.gif", frames=5).name
    'line.gif'
    """
    ending = Path(path).suffix.lower() if isinstance(path, str | PathLike) else ""  # pyright: ignore[reportUnnecessaryIsInstance]  # callers may not be typed
    if ending not in ENDINGS:
        raise OptionError(
            f"{str(path)!r} is no moving picture", remedy="Give a name that ends in .gif, .html or .mp4"
        )
    if frames < 2 or not 0 < seconds < 3600:
        raise OptionError(f"{frames} frames in {seconds:g} seconds are no moving picture")
    if ending == ".mp4" and shutil.which("ffmpeg") is None:
        raise OptionError(
            "An MP4 needs the program ffmpeg, which is not installed", remedy="Write a .gif or .html"
        )
    file = target(path, force=force)
    way = way_of(result)
    film = _filmed(result, way, frames, seconds)
    write: Callable[[Film], bytes] = {".gif": _gif, ".html": _page, ".mp4": _mp4}[ending]
    write_whole({file: write(film)})
    return file


def _filmed(result: "FitResult", way: Way, most: int, seconds: float) -> Film:
    stage = Stage(result, way)
    stage.figure.set_dpi(DOTS)
    frames: list[NDArray[np.uint8]] = []
    captions: list[str] = []
    canvas: Any = stage.figure.canvas
    for i in _chosen(way.step, most):
        stage.show(i)
        canvas.draw()
        frames.append(np.array(canvas.buffer_rgba()))
        captions.append(f"{way.word} {int(way.step[i]):,}, loss {way.loss[i]:.6g}")
    return Film(frames, captions, seconds / len(frames))


def _chosen(step: NDArray[np.int64], most: int) -> list[int]:
    """Return which steps are shown: evenly spaced on a logarithmic axis, the first and the last among them."""
    if len(step) <= most:
        return list(range(len(step)))
    wanted = np.expm1(np.linspace(0, np.log1p(float(step[-1] - step[0])), most)) + step[0]
    return np.unique(np.searchsorted(step, wanted).clip(0, len(step) - 1)).tolist()


def _images(film: Film) -> list[Any]:
    pillow = importlib.import_module("PIL.Image")
    return [pillow.fromarray(frame[..., :3]) for frame in film.frames]


def _gif(film: Film) -> bytes:
    """Return the frames as a GIF with one palette for all, so that nothing flickers."""
    images = _images(film)
    palette = images[-1].quantize(128)
    set_in = [image.quantize(palette=palette, dither=0) for image in images]
    each = max(20, round(1000 * film.seconds))
    held = BytesIO()
    set_in[0].save(
        held, format="GIF", save_all=True, append_images=set_in[1:], loop=0, optimize=False,
        duration=[each] * (len(set_in) - 1) + [round(1000 * REST)],
    )  # fmt: skip
    return held.getvalue()


def _mp4(film: Film) -> bytes:
    height, width = (side - side % 2 for side in film.frames[0].shape[:2])  # the codec wants even sides
    last = [film.frames[-1]] * max(1, round(REST / film.seconds))
    raw = b"".join(np.ascontiguousarray(f[:height, :width, :3]).tobytes() for f in [*film.frames, *last])
    command = [
        "ffmpeg", "-loglevel", "error", "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}",
        "-r", f"{1 / film.seconds:.4f}", "-i", "-", "-pix_fmt", "yuv420p", "-movflags", "frag_keyframe+empty_moov",
        "-f", "mp4", "-",
    ]  # fmt: skip
    done = subprocess.run(command, input=raw, capture_output=True, check=False)  # noqa: S603  no shell, no user's words
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise OptionError(
            f"ffmpeg did not write the film: {(said or ['no reason given'])[-1]}", remedy="Write a .gif"
        )
    return done.stdout


def _page(film: Film) -> bytes:
    """Return one HTML page with the frames inside, a slider and a button."""
    pictures: list[str] = []
    for image in _images(film):
        held = BytesIO()
        image.quantize(128, dither=0).save(held, format="PNG", optimize=True)
        pictures.append(base64.b64encode(held.getvalue()).decode())
    height, width = film.frames[0].shape[:2]
    values = {
        "WIDTH": str(width), "HEIGHT": str(height), "LAST": str(len(pictures) - 1),
        "PICTURES": json.dumps(pictures), "CAPTIONS": json.dumps(list(film.captions)),
        "EACH": str(max(20, round(1000 * film.seconds))), "REST": str(round(1000 * REST)),
        "FIRST": escape(film.captions[-1]),
    }  # fmt: skip
    page = _PAGE
    for name, value in values.items():
        page = page.replace(f"@{name}@", value)
    return page.encode()


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>The fit as it learned</title>
<style>
body { margin: 2rem auto; max-width: @WIDTH@px; padding: 0 1rem; background: #fcfcfa; color: #171a1f;
       font: 16px/1.5 system-ui, sans-serif; }
img { width: 100%; height: auto; display: block; }
form { display: flex; gap: 1rem; align-items: center; flex-wrap: wrap; }
input { flex: 1 1 12rem; accent-color: #0067a8; }
button { font: inherit; padding: .3rem 1rem; border: 1px solid #828992; border-radius: 4px; background: #fff; min-width: 6rem; }
output { flex-basis: 16rem; font-variant-numeric: tabular-nums; color: #454c55; }
</style></head><body>
<img id="picture" width="@WIDTH@" height="@HEIGHT@" alt="The fit at one step: readings with the curve, and the loss">
<form onsubmit="return false"><button id="play" type="button">Pause</button>
<input id="slider" type="range" min="0" max="@LAST@" value="@LAST@" aria-label="Step">
<output id="caption">@FIRST@</output></form>
<script>
const pictures = @PICTURES@, captions = @CAPTIONS@;
const at = name => document.getElementById(name);
let running = !matchMedia("(prefers-reduced-motion: reduce)").matches, timer;
function show(i) {
  at("slider").value = i;
  at("picture").src = "data:image/png;base64," + pictures[i];
  at("caption").textContent = captions[i];
}
function next() {
  const i = (Number(at("slider").value) + 1) % pictures.length;
  show(i);
  timer = setTimeout(next, i === pictures.length - 1 ? @REST@ : @EACH@);
}
function set(on) {
  running = on;
  clearTimeout(timer);
  at("play").textContent = on ? "Pause" : "Play";
  if (on) timer = setTimeout(next, @EACH@);
}
at("play").onclick = () => set(!running);
at("slider").oninput = () => { set(false); show(Number(at("slider").value)); };
show(pictures.length - 1);
set(running);
</script></body></html>
"""
