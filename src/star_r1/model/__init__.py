"""The embedded mini model, its processor and pretraining, and loading of any model. Needs torch."""
