"""What travels and what is shown: the same shapes for Python, `--output json`, REST and the stream."""

from ebbgate.wire.shapes import HolderInfo, LeaseInfo, LimitInfo, SlotsInfo, StatusInfo

__all__ = ["HolderInfo", "LeaseInfo", "LimitInfo", "SlotsInfo", "StatusInfo"]
