"""What is installed here, what is wrong with it, and the known issues of these versions: `examine`."""

from interop.doctor.examination import examine

__all__ = ["examine"]
