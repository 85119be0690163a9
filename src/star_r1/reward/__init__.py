"""What is learned from: (answer, true changes) -> reward. Standard library only."""

from star_r1.reward.star import Match, Reward, StarConfig, star

__all__ = ["Match", "Reward", "StarConfig", "star"]
