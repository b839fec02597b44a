"""The figures of report and notebooks: each function draws data on Axes and returns the Axes."""
