"""Front ends of a trained network: sentences and text for a terminal, figures, files."""

from gradfit.networks.figure import network_figure
from gradfit.networks.file import is_network_file, load_network, network_bytes, save_network
from gradfit.networks.sentences import said
from gradfit.networks.text import summary
from gradfit.networks.values import summary_dict

__all__ = [
    "is_network_file", "load_network", "network_bytes", "network_figure", "said", "save_network", "summary", "summary_dict",
]  # fmt: skip
