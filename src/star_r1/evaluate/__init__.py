"""From a model to completions to metrics, on disk and resumable; and the scoring of any file."""
