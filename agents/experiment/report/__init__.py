"""What is made of results: statistics, tables, charts and pages."""
