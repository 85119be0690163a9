"""Parts of ``benchmarks/fidelity.py``: pictures, crops, the classifier, strips."""
