"""The page about a finished or running search: `search.reporting.page.write_report` writes it."""
