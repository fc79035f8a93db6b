"""Broken and hostile files and requests by the thousand: `make fuzz`, and a short form in the test suite."""
