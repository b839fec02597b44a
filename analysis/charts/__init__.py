"""The figures of report and notebooks: data and Axes in, the Axes out."""
