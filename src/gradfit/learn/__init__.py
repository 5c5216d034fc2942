"""Networks: any torch.nn.Module, or the usual one for the columns of a table, trained, measured and judged."""

from gradfit.learn.fit import fit_network, is_network
from gradfit.learn.result import NetworkResult
from gradfit.learn.spec import NetworkSpec, network, network_formula

__all__ = ["NetworkResult", "NetworkSpec", "fit_network", "is_network", "network", "network_formula"]
