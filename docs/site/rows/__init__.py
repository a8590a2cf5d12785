"""The rows of the catalog, a file for each group of places."""
