"""Pictures and scenes to parquet and back: generate, load, describe, show."""
