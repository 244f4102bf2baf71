"""The audit of a database: whether its log is whole, and whether everything else in it is what the log says.

Reads one file and believes nothing in it. Writes nothing, mends nothing.
"""

from __future__ import annotations

from foreman.audit.auditing import audit
from foreman.audit.findings import Code, Finding, Findings
from foreman.audit.report import Report
from foreman.audit.witness import Witness, witnesses_in

__all__ = ["Code", "Finding", "Findings", "Report", "Witness", "audit", "witnesses_in"]
