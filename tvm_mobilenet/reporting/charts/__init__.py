"""Charts as SVG elements that take their colours from the page: one file a kind of chart."""
