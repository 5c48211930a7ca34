"""Numbers that may depend on the progress of a run, as SB3 has them, for whoever makes, reads or logs them."""

from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.type_aliases import Schedule
from stable_baselines3.common.utils import FloatSchedule, LinearSchedule

#: where schedules are tried before a run: its beginning, middle and end
TRIED = (1.0, 0.5, 0.0)


class LoggableSchedule(LinearSchedule, float):
    """
    SB3's ``LinearSchedule`` that is a number, too, its first value: TensorBoard's table of hyperparameters, JSON and the like
    take it, and a student with default settings has one.

    >>> from sb3_distill.algorithms.schedules import LoggableSchedule
    >>> rate = LoggableSchedule(4e-3, 2e-4, 1.0)
    >>> rate, rate * 1, rate(1.0)
    (LinearSchedule(start=0.004, end=0.0002, end_fraction=1.0), 0.004, 0.004)

    :param start: the value where ``progress_remaining`` is 1
    :param end: the last value
    :param end_fraction: share of the run after which it is reached
    """

    def __new__(cls, start: float, end: float, end_fraction: float) -> "LoggableSchedule":
        return super().__new__(cls, start)

    def __reduce__(self) -> tuple[Any, ...]:  # who reads it elsewhere needs SB3 alone
        return LinearSchedule, (self.start, self.end, self.end_fraction)


class LoggableLearningRate(BaseAlgorithm):
    """
    An algorithm whose ``learning_rate`` can be logged where it is a ``LinearSchedule``. What is saved stays SB3's own. Put it
    before the SB3 algorithm in a class's bases.
    """

    @property
    def learning_rate(self) -> Any:
        """As it was given; of a ``LinearSchedule``, one that is its first value, too."""
        rate = vars(self)["learning_rate"]
        return LoggableSchedule(rate.start, rate.end, rate.end_fraction) if type(rate) is LinearSchedule else rate

    @learning_rate.setter
    def learning_rate(self, rate: float | Schedule) -> None:
        if isinstance(rate, LoggableSchedule):
            rate = LinearSchedule(rate.start, rate.end, rate.end_fraction)
        vars(self)["learning_rate"] = rate

    def _setup_lr_schedule(self) -> None:
        self.lr_schedule = FloatSchedule(vars(self)["learning_rate"])


class ScheduledDiscount(OnPolicyAlgorithm):
    """
    An on-policy algorithm whose ``gamma`` may be a schedule: a rollout's is the number that it gives as the rollout begins. What is saved
    has that number as ``gamma``, and the schedule beside it. Put it before the SB3 algorithm in a class's bases.
    """

    gamma_schedule: Schedule | None = None

    @property
    def gamma(self) -> float:
        """Of the present rollout. A number that is set takes the place of a schedule."""
        return float(vars(self)["gamma"])

    @gamma.setter
    def gamma(self, value: float | Schedule) -> None:
        vars(self).update(discount_of(value, self._current_progress_remaining))
        if "rollout_buffer" in vars(self):  # which a schedule may have moved
            self.rollout_buffer.gamma = self.gamma

    def _update_current_progress_remaining(self, num_timesteps: int, total_timesteps: int) -> None:
        super()._update_current_progress_remaining(num_timesteps, total_timesteps)
        if self.gamma_schedule is not None:
            gamma = discount_at(self.gamma_schedule, self._current_progress_remaining)
            vars(self)["gamma"] = self.rollout_buffer.gamma = gamma

    def _drop_foreign_schedule(self) -> None:
        """After ``load``: SB3's own PPO may have been given another number, and saved it beside a schedule that it does not know."""
        schedule = self.gamma_schedule
        if schedule is not None and self.gamma != discount_at(schedule, self._current_progress_remaining):
            self.gamma_schedule = None


def discount_of(gamma: Any, progress: float = 1.0) -> dict[str, Any]:
    """
    :param gamma: a number, or a schedule
    :param progress: what is left of the run, from 1 to 0
    :return: the attributes of :class:`ScheduledDiscount` that it becomes
    """
    if callable(gamma):
        return {"gamma": discount_at(gamma, progress), "gamma_schedule": gamma}
    return {"gamma": gamma, "gamma_schedule": None}


def discount_at(schedule: Schedule, progress: float) -> float:
    """
    :param schedule: of gamma
    :param progress: what is left of the run, from 1 to 0
    :return: the number that it is then
    :raises ValueError: where it fails, or gives none from 0 to 1
    """
    gamma = value_at("gamma", schedule, progress)
    if not 0 <= gamma <= 1:
        raise ValueError(
            f"gamma must lie between 0 and 1, and its schedule gives {gamma:g} for progress_remaining={progress:g}."
        )
    return gamma


def schedule_of(name: str, value: Any) -> FloatSchedule:
    """
    :param name: of the setting, for the message
    :param value: a number of Python, NumPy or torch, or a schedule
    :return: a schedule
    :raises ValueError: for anything else
    """
    if callable(value):
        return FloatSchedule(value)
    try:
        return FloatSchedule(float(value))
    except (TypeError, ValueError):
        raise ValueError(f"{name} must be a number or a schedule of progress_remaining, not {value!r}.") from None


def value_at(name: str, value: Any, progress: float) -> float:
    """
    :param name: of the setting, for the message
    :param value: as of :func:`schedule_of`
    :param progress: what is left of the run, from 1 to 0. SB3's own falls a little below 0 in a last rollout that ends after the
        run does; that counts as 0
    :return: the number that it is then
    :raises ValueError: where the schedule fails
    """
    progress = min(max(progress, 0.0), 1.0)
    schedule = schedule_of(name, value)
    try:
        return schedule(progress)
    except Exception as error:
        raise ValueError(
            f"{name} must give a number for every progress_remaining from 1 to 0, both included, and for {progress:g} its "
            f"schedule fails with {type(error).__name__}: {error}."
        ) from error


def has_effect(name: str, value: Any) -> bool:
    """
    :param name: of the setting, for the message
    :param value: as of :func:`schedule_of`
    :return: whether it is other than 0 at the beginning, in the middle or at the end of a run
    """
    return any(value_at(name, value, progress) != 0 for progress in TRIED)


def described_schedule(schedule: FloatSchedule) -> float | str:
    """
    >>> from sb3_distill.algorithms.schedules import described_schedule, schedule_of
    >>> from stable_baselines3.common.utils import LinearSchedule
    >>> described_schedule(schedule_of("loss_coef", 0.5)), described_schedule(schedule_of("loss_coef", LinearSchedule(1.0, 0.0, 1.0)))
    (0.5, '1 falling to 0')

    :param schedule: of a setting
    :return: for JSON: its first value, and its last one if that is another
    """
    first, last = schedule(1.0), schedule(0.0)
    return first if first == last else f"{first:g} {'falling' if last < first else 'rising'} to {last:g}"
