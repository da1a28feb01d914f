"""One figure of the report per file: `draw(evaluation)` gives a `Figure`, or None when there is nothing to show."""
