"""The reports: the same results as a page for people, as Markdown for a README, and as JUnit XML for machines.

All three take results in memory and return text; the same results give the same text. Whether a record is bad, and whether a known
deviation explains it, is decided once, in `interop_conformance.report.verdicts`.
"""

from interop_conformance.report.page import html
from interop_conformance.report.text import markdown, readme_table
from interop_conformance.report.verdicts import Deviation, command, label
from interop_conformance.report.xunit import junit

__all__ = ["Deviation", "command", "html", "junit", "label", "markdown", "readme_table"]
