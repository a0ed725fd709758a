"""Learning rate by optimiser step."""

from __future__ import annotations

from vidaudio.training.blocks import ScheduleBlock


def unfinished_warmup(schedule: ScheduleBlock) -> str | None:
    """Return a warning if a run ends within its warm-up; None if it reaches the full learning rate."""
    if schedule.kind != "linear" or schedule.warmup_steps <= schedule.steps:
        return None
    reached = schedule.steps / schedule.warmup_steps
    return (
        f"schedule.warmup_steps={schedule.warmup_steps} is longer than the run, schedule.steps={schedule.steps}: the "
        f"learning rate ends at {reached:.2%} of optimiser.learning_rate"
    )


def rate_factor(step: int, schedule: ScheduleBlock) -> float:
    """Return the learning rate at an optimiser step, as a factor of the highest (linear: CLIPSep's code)."""
    if schedule.kind == "milestones":
        return schedule.milestone_factor ** sum(step >= milestone for milestone in schedule.milestones)
    if schedule.kind == "exponential":
        return schedule.step_factor**step
    if step < schedule.warmup_steps:
        return (step + 1) / schedule.warmup_steps
    span = max(1, schedule.decay_until_step - schedule.warmup_steps)
    progress = min(1.0, (step - schedule.warmup_steps) / span)
    return 1.0 + progress * (schedule.final_factor - 1.0)
