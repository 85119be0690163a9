"""Training on TRL: GRPO with the STAR reward, and supervised fine-tuning on answers. Needs trl."""
