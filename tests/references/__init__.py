"""Independent results to compare with: float64 NumPy and stored figures of other libraries."""
