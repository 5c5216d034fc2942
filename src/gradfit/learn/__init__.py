"""Networks: any torch.nn.Module, or the usual one for the columns of a table, trained, measured and judged."""

from gradfit.learn.fit import FULL, fit_network, fit_networks, is_network
from gradfit.learn.jobs import cores
from gradfit.learn.result import NetworkResult
from gradfit.learn.spec import NetworkSpec, network, network_formula

__all__ = [
    "FULL",
    "NetworkResult",
    "NetworkSpec",
    "cores",
    "fit_network",
    "fit_networks",
    "is_network",
    "network",
    "network_formula",
]
