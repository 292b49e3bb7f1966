"""How a search runs: decide, run, record, show, export."""
