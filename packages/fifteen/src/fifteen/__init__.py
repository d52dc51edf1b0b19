"""Feed JAX training loops; see :mod:`fifteen.data`."""

from fifteen import data
from fifteen.__about__ import __version__

__all__ = ["__version__", "data"]
