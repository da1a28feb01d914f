"""The self-contained page: what was fitted to what, and how well, in figures that need no network."""

from roughspike.report.page import write_report as write_report
