"""Pictures of scenes: camera geometry, instance masks, and the Mitsuba renderer."""
