"""The way of a solver, drawn and moving."""

import json
import re
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import gradfit
from gradfit.errors import OptionError

T_C = [0.5, 14, 15, 28, 11, 8, 3, -4, 6, 13, 21]
T_U = [35.7, 55.9, 58.2, 81.9, 56.3, 48.9, 33.9, 21.8, 48.4, 60.4, 68.4]


@pytest.fixture(scope="module")
def line() -> gradfit.FitResult:
    data = {"t_un": np.array(T_U) / 10, "t_c": T_C}
    return gradfit.fit("t_c = w*t_un + b", data, start={"w": 1, "b": 0}, solver="SGD", lr=1e-2, epochs=500)


def test_a_gif_shows_the_first_and_the_last_epoch_and_moves(line: gradfit.FitResult, tmp_path: Path) -> None:
    file = line.animate(tmp_path / "fit.gif", frames=6)
    with Image.open(file) as film:
        assert film.n_frames == 6
        film.seek(0)
        first = np.array(film.convert("RGB"))
        film.seek(film.n_frames - 1)
        last, rest = np.array(film.convert("RGB")), film.info["duration"]
        film.seek(1)
    assert first.shape == last.shape
    assert (first != last).any(axis=2).mean() > 0.005  # the curve has moved, the rest has not
    assert (first != last).any(axis=2).mean() < 0.2
    assert rest > 1000


def test_a_page_holds_all_it_needs(line: gradfit.FitResult, tmp_path: Path) -> None:
    page = line.animate(tmp_path / "fit.html", frames=4).read_text()
    assert not re.search(r"(src|href)\s*=\s*[\"']?(https?:)?//", page)
    pictures = json.loads(re.search(r"pictures = (\[.*?\])", page)[1])
    captions = json.loads(re.search(r"captions = (\[.*?\])", page)[1])
    assert len(pictures) == len(captions) == 4
    assert captions[0].startswith("epoch 0, loss 8")
    assert captions[-1].startswith("epoch 500, ")


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("fit.png", {}, "no moving picture"),
        ("fit", {}, "no moving picture"),
        ("fit.gif", {"frames": 1}, "1 frames"),
        ("fit.gif", {"seconds": 0}, "0 seconds"),
    ],
)
def test_what_cannot_be_written_is_said(
    line: gradfit.FitResult, tmp_path: Path, name: str, arguments: dict[str, float], said: str
) -> None:
    with pytest.raises(OptionError, match=said):
        line.animate(tmp_path / name, **arguments)
    assert not list(tmp_path.iterdir())


def test_an_mp4_needs_ffmpeg(
    line: gradfit.FitResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(OptionError, match="needs the program ffmpeg"):
        line.animate(tmp_path / "fit.mp4")


def test_a_file_that_is_there_stays(line: gradfit.FitResult, tmp_path: Path) -> None:
    file = tmp_path / "fit.gif"
    file.write_text("mine")
    with pytest.raises(OptionError, match="there already"):
        line.animate(file)
    assert file.read_text() == "mine"


def test_a_closed_form_has_no_way() -> None:
    fitted = gradfit.fit("t_c = w*t_u + b", {"t_u": T_U, "t_c": T_C})
    with pytest.raises(OptionError, match="solved without steps"):
        fitted.plot_way()


def _ways() -> list[gradfit.FitResult]:
    x = np.linspace(0, 10, 40)
    y = 3 * np.exp(-((x - 4) ** 2) / 2) + np.random.default_rng(0).normal(0, 0.1, 40)
    peak, start = "y = a*exp(-(x-m)**2/(2*s**2))", {"a": 1, "m": 3, "s": 1}
    plain = {"t_u": T_U, "t_c": T_C}
    two = {"x1": x, "x2": np.cos(x), "y": 2 * x + np.cos(x)}
    return [
        gradfit.fit(peak, {"x": x, "y": y}, start=start, solver="Adam", lr=0.05, epochs=50),
        gradfit.fit(peak, {"x": x, "y": y}, start=start),
        gradfit.fit("t_c = w*t_u + b", plain, start={"w": 1, "b": 0}, solver="SGD", lr=1e-2, epochs=30),
        gradfit.fit("y = a*x1 + b*x2", two, start={"a": 0, "b": 0}, solver="SGD", lr=1e-3, epochs=30),
        gradfit.fit("y = m", {"y": y}, start={"m": 0}, solver="SGD", lr=0.1, epochs=20),
        gradfit.fit(peak, {"x": x, "y": y}, start=start, fixed={"s": 1.0}, solver="Adam", lr=0.1, epochs=20),
        gradfit.fit(peak, {"x": x, "y": y}, start=start, solver="Adam", lr=0.05, epochs=20, validation=0.25),
    ]


@pytest.mark.parametrize("which", range(7))
def test_every_kind_of_way_is_drawn(which: int, tmp_path: Path) -> None:
    figure = _ways()[which].plot_way()
    file = tmp_path / "way.png"
    figure.savefig(file)
    width, height = struct.unpack(">II", file.read_bytes()[16:24])
    assert width > 2 * height
    assert figure.texts[0].get_text().startswith(("Epoch", "Iteration"))
