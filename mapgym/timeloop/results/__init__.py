"""Results that Timeloop has printed: read, priced anew, and compared figure by figure."""

from mapgym.timeloop.results.folder import is_results
from mapgym.timeloop.results.validation import FILES, CaseReport, validate_case, validate_folder

__all__ = ["FILES", "CaseReport", "is_results", "validate_case", "validate_folder"]
