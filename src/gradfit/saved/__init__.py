"""A fit as JSON: saved and loaded to the last digit, without pickles, torch or the user's code."""

from gradfit.saved.reading import load
from gradfit.saved.summary import summary_dict
from gradfit.saved.writing import save, saved_text

__all__ = ["load", "save", "saved_text", "summary_dict"]
