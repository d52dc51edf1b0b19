"""Is data the bottleneck, and which setting helps? Measured on this machine."""

from fifteen._diagnose._diagnosis import Diagnosis
from fifteen._diagnose._findings import MeasuredSetting
from fifteen._diagnose._measure import diagnose

__all__ = ["Diagnosis", "MeasuredSetting", "diagnose"]
