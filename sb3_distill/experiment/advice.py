"""What to try next where a student is not as good as its teacher, by what was measured of it."""

from collections.abc import Mapping, Sequence
from typing import Any

from sb3_distill.experiment.comparison import Likeness, Share

#: a share from which on nothing needs to be tried
ENOUGH = 0.95
#: an agreement from which on the student does what its teacher does
ALIKE = 0.97
#: nats below which the student has learnt what its teacher says, however softly
CLOSE = 0.05
#: of which the states are the teacher's
ON_TEACHERS_STATES = ("teacher_distill", "policy_distillation")
#: without ℓ
BY_REWARD_ALONE = ("entropy_regularised", "teacher_v_reward")
#: the next larger student of images
LARGER = {"4%": "7%", "7%": "25%"}


def advice(
    share: Share | None,
    alike: Likeness,
    settings: Mapping[str, Any],
    temperature: float | None,
    curve: Sequence[float],
) -> str | None:
    """
    :param share: of the teacher's return
    :param alike: how alike the two act on the student's states
    :param settings: of the run, as ``results.json`` has them
    :param temperature: of a Q-network that teaches, if there is one
    :param curve: returns of the learning curve, in order
    :return: flags to try; None where the student is good enough, or nothing can be said
    """
    if share is None or share.mean >= ENOUGH:
        return None
    more = f"--steps {4 * settings['steps']}"
    if settings["method"] in BY_REWARD_ALONE:
        return f"try --method on-policy-distill, or --steps {10 * settings['steps']}: by reward alone it takes ten times the steps"
    does_the_same = alike.agreement is not None and alike.agreement >= ALIKE
    if does_the_same and temperature is not None and (alike.kl is None or alike.kl < CLOSE):
        return (
            f"try --temperature {temperature / 10**0.5:.2g}: it has learnt what the teacher says, and a colder teacher says more "
            "clearly which action it means"
        )
    if settings["method"] in ON_TEACHERS_STATES and not does_the_same:
        return (
            "try --method on-policy-distill: the states that it comes to by itself are not those that it has learnt from, the "
            "teacher's"
        )
    if still_rising(curve):
        return f"try {more}: it was still getting better"
    return f"try {larger(settings)}, then {more}: it was no longer getting better"


def still_rising(curve: Sequence[float]) -> bool:
    """
    :param curve: returns in order
    :return: whether the last quarter was better than the one before it, by a twentieth of all that was gained
    """
    quarter = len(curve) // 4
    if quarter == 0:
        return True
    last, before = curve[-quarter:], curve[-2 * quarter : -quarter]
    gained = max(curve) - min(curve)
    return sum(last) / quarter - sum(before) / quarter > gained / 20


def larger(settings: Mapping[str, Any]) -> str:
    """
    :param settings: of a run
    :return: a flag for a larger student
    """
    size = settings.get("size")
    if size in LARGER:
        return f"--size {LARGER[size]}"
    return f"--net-arch {','.join(str(2 * n) for n in settings['net_arch']) or '64'}"
