"""The parts of benchmarks/grpo_step.py."""
