"""Figures for files, pages and notebooks, and moving pictures."""

from gradfit.figures.data import data_figure
from gradfit.figures.explaining import explanation_figure
from gradfit.figures.fit import fit_figure
from gradfit.figures.library import models_figure
from gradfit.figures.sheet import figure_bytes, save

__all__ = ["data_figure", "explanation_figure", "figure_bytes", "fit_figure", "models_figure", "save"]
