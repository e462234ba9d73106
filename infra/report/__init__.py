"""The report of a run: one HTML page that explains its numbers to somebody who was not there.

Self-contained: no script, no style sheet, font or picture from elsewhere; the charts are inline SVG. It
prints, reads aloud and stays legible without colour. The same tables give the same bytes: no clock, no run
id.
"""

from infra.report.page import build_report

__all__ = ["build_report"]
