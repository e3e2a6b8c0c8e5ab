"""What Wan2.1's networks were trained on, and how much of a schedule is run. Imports nothing: jobs read it, too."""

FPS = 16
MOST_FRAMES = 81  # at once; more are made in windows


def steps_run(steps: int, strength: float) -> int:
    """The last so many of all steps are left to do for a video that is noised only as far as there."""
    return min(int(steps * strength), steps)
