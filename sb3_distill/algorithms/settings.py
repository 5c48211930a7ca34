"""All defaults of a student in one pure function, and where a user can see them."""

import inspect
from collections.abc import Mapping
from typing import Any

from gymnasium import spaces
from stable_baselines3.common.base_class import maybe_make_env
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.type_aliases import GymEnv
from stable_baselines3.common.utils import LinearSchedule
from stable_baselines3.common.vec_env import VecEnv

from sb3_distill.algorithms.coefficients import COEFFICIENTS, beta_at, check_beta, schedules_of, weights_at
from sb3_distill.algorithms.rollout_size import batch_that_fits, steps_that_fill
from sb3_distill.algorithms.schedules import TRIED, value_at
from sb3_distill.algorithms.student_policy import check_numbers, check_rate, is_share
from sb3_distill.common.env_ids import check_env_id
from sb3_distill.common.nearest import nearest
from sb3_distill.rules.methods import STUDENT_VALUE, Method, get_method, is_as_printed, with_critic

#: settings of ``form="paper"``: a normalised advantage is not its R̂, and the last weights are its student
PAPER: dict[str, Any] = {
    "normalize_advantage": False,
    "reward_coef": 1.0,
    "gamma": 0.99,
    "averaging": 0.0,
    "whitening": False,
}
#: settings that are no arguments of SB3's algorithms
OWN = ("loss_coef", "reward_coef", "env_reward_coef", "averaging", "whitening")
#: arguments that nothing is resolved for
PLAIN = ("beta", "teacher_return", "random_return", "reward_bound", "mixed_precision")


def resolve_settings(
    tables: Any,
    row: Method,
    form: str | None,
    given: Mapping[str, Any],
    n_envs: int,
    images: bool,
    continuous: bool = False,
) -> dict[str, Any]:
    """
    What a student is trained with.

    :param tables: has ``defaults``, ``row_defaults``, ``continuous_defaults``, ``pixel_defaults`` and ``pixel_row_defaults``: a class of
        algorithms
    :param row: of the table of methods
    :param form: ``"paper"`` has settings of its own, as has a row of that form that is given whole
    :param given: arguments by name. None leaves a coefficient, ``averaging`` or ``whitening`` to its default
    :param n_envs: environments side by side
    :param images: whether the student sees images
    :param continuous: whether its actions are continuous
    :return: :data:`OWN` and the arguments of SB3's algorithm that are given or have another default than there; of the rollout's
        and the minibatch's size, those that fit what is given and each other
    """
    settings = {"whitening": False} | tables.defaults | tables.row_defaults.get(row.name, {})
    if continuous:
        settings |= tables.continuous_defaults
    if images:
        settings |= tables.pixel_defaults | tables.pixel_row_defaults.get(row.name, {})
    printed = form == "paper" or is_as_printed(row)
    if printed:
        settings |= PAPER
    paid = given.get("env_reward_coef")
    paid = settings.get("env_reward_coef", 0.0) if paid is None else paid
    is_paid = callable(paid) or paid != 0
    if is_paid and not printed:
        settings = reinforced(settings, row)
    batch_size, n_steps = given.get("batch_size"), given.get("n_steps")
    if n_steps is not None and n_steps * n_envs == 1:
        settings["normalize_advantage"] = False  # one advantage has no standard deviation
    if "batch_size" in settings and n_steps is None:
        settings["n_steps"] = steps_that_fill(settings["n_steps"], batch_size or settings["batch_size"], n_envs)
    elif "batch_size" in settings and n_steps is not None and batch_size is None:
        settings["batch_size"] = batch_that_fits(settings["batch_size"], n_steps * n_envs)
    if (is_paid or STUDENT_VALUE in row.needs) and settings.get("vf_coef") == 0:
        del settings["vf_coef"]  # its critic has to learn: SB3's weight
    if STUDENT_VALUE in row.needs and callable(settings.get("gamma")):
        del settings["gamma"]  # values are compared: of one discount
    settings["env_reward_coef"] = settings.get("env_reward_coef", 0.0)
    settings["loss_coef"] = 0.0 if row.loss is None else settings.get("loss_coef", 1.0)
    settings["reward_coef"] = 0.0 if row.reward is None else settings.get("reward_coef", 1.0)
    # The environment's reward goes on to improve the student: a mean of its weights would be of an earlier one.
    settings["averaging"] = 0.0 if is_paid else settings.get("averaging", 0.0)
    return settings | {name: value for name, value in given.items() if value is not None or name not in OWN}


def reinforced(settings: Mapping[str, Any], row: Method) -> dict[str, Any]:
    """
    >>> from sb3_distill import NDistill
    >>> settings = NDistill.settings("CartPole-v1", env_reward_coef=1)
    >>> [settings[name] for name in ("gamma", "vf_coef", "max_grad_norm", "loss_coef", "reward_coef")]
    [0.99, 0.5, 0.5, LinearSchedule(start=1.0, end=0.0, end_fraction=1.0), LinearSchedule(start=0.03, end=0.0, end_fraction=1.0)]

    :param settings: of pure distillation
    :param row: of the table of methods
    :return: what of them goes with the environment's reward: its return has SB3's discount and clipping, and the teacher's pull, of ℓ and
        of an r̂ in nats, lets go in the course of the run
    """
    own = dict(settings)
    pulls = row.reward is not None and row.reward.in_nats
    for name in ("gamma", "max_grad_norm", *(["gae_lambda"] if pulls else [])):
        own.pop(name, None)
    if row.loss is not None:
        own["loss_coef"] = LinearSchedule(own.get("loss_coef", 1.0), 0.0, 1.0)
    if pulls:
        own["reward_coef"] = LinearSchedule(own.get("reward_coef", 1.0), 0.0, 1.0)
    return own


def about_env(env: Any) -> tuple[int, bool, bool]:
    """
    :param env: given to an algorithm
    :return: how many copies of an environment there are, whether they show images, and whether their actions are continuous
    """
    space = getattr(env, "observation_space", None)
    continuous = isinstance(getattr(env, "action_space", None), spaces.Box)
    return env.num_envs if isinstance(env, VecEnv) else 1, space is not None and is_image_space(space), continuous


def all_settings(algorithm: Any, env: GymEnv | str, given: dict[str, Any]) -> dict[str, Any]:
    """
    :param algorithm: a class of ours on one of SB3's algorithms
    :param env: the environment, or its Gymnasium id
    :param given: arguments of the constructor that are given
    :return: from names of arguments to values: those given, those of the row, and SB3's own
    :raises ValueError: for unknown names, and for values that the constructor refuses
    """
    if isinstance(env, str):
        check_env_id(env)
    made = maybe_make_env(env, 0)
    seen = about_env(made)
    if isinstance(env, str):
        made.close()
    variant = {name: given.pop(name, None) for name in ("form", "baseline", "control", "weight")}
    critic = given.pop("critic", None)
    row = get_method(algorithm.fixed_method or given.pop("method", None) or algorithm.default_method, **variant)
    row = with_critic(row, critic)
    theirs = {name: parameter.default for name, parameter in sb3_parameters(algorithm).items()}
    known = {**theirs, **dict.fromkeys(OWN), **dict.fromkeys(PLAIN), "beta_per": "step"}
    for name in given:
        if name not in known:
            raise ValueError(f"{algorithm.__name__} has no setting {name!r}: {nearest(name, known)}")
    named = {
        "method": row.name,
        "form": variant["form"] or ("paper" if is_as_printed(row) else "unbiased"),
        "baseline": variant["baseline"] or "teacher",
        "control": row.control,
        "weight": variant["weight"],
        "critic": critic,
    }
    check_numbers(given)
    check_averaging(given.get("averaging"))
    settings = named | known | resolve_settings(algorithm, row, variant["form"], given, *seen)
    check_weights(row, settings)
    return settings


def check_averaging(share: Any) -> None:
    """
    :param share: of the run at its end, or None
    :raises ValueError: if it is none
    """
    if share is not None and not is_share(share):
        raise ValueError(f"averaging is a share of the run between 0 and 1, not {share!r}.")


def check_weights(row: Method, settings: Mapping[str, Any]) -> None:
    """
    :param row: of the table
    :param settings: of a student, with :data:`OWN`, ``beta`` and ``learning_rate``
    :raises ValueError: for coefficients, β and rates that a student of that row cannot have in the course of a run
    """
    schedules = schedules_of(row, {name: settings[name] for name in COEFFICIENTS})
    check_beta(settings["beta"], row.control)
    weights = [weights_at(row, row.control, schedules, progress) for progress in TRIED]
    for progress in TRIED:
        beta_at(settings["beta"], row.control, progress)
        if any(at.loss > 0 or at.reward > 0 for at in weights):
            check_rate(value_at("learning_rate", settings["learning_rate"], progress))


def sb3_class(algorithm: type) -> type:
    """
    :param algorithm: a class with one of SB3's or sb3-contrib's algorithms among its bases
    :return: that algorithm, which loads what the class saves
    """
    return next(c for c in algorithm.__mro__ if c.__module__.split(".")[0] in ("stable_baselines3", "sb3_contrib"))


def sb3_parameters(algorithm: type) -> dict[str, inspect.Parameter]:
    """
    :param algorithm: a class with one of SB3's or sb3-contrib's algorithms among its bases
    :return: that algorithm's arguments by name, but for policy and environment
    """
    parameters = inspect.signature(sb3_class(algorithm)).parameters
    return {name: p for name, p in parameters.items() if name not in ("policy", "env", "_init_setup_model")}


def check_names(algorithm: type, ours: type, given: Mapping[str, Any]) -> None:
    """
    :param algorithm: a class of ours on one of SB3's algorithms
    :param ours: the class among its bases that hands ``given`` on
    :param given: arguments for the next constructor
    :raises TypeError: for a name that it does not have; Python's own error has no hint, and speaks of SB3's class
    """
    after = algorithm.__mro__[algorithm.__mro__.index(ours) + 1 :]
    theirs = inspect.signature(next(c.__init__ for c in after if "__init__" in vars(c))).parameters  # type: ignore[misc]
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in theirs.values()):
        return  # an algorithm of the user's own, which may take more
    names = {**inspect.signature(ours.__init__).parameters, **theirs}  # type: ignore[misc]
    known = [name for name in names if not name.startswith("_") and name not in ("self", "kwargs", "policy", "env")]
    for name in given:
        if name not in theirs:
            raise TypeError(f"{algorithm.__name__} has no argument {name!r}: {nearest(name, known)}")


def visible_signature(algorithm: Any, own: inspect.Signature) -> inspect.Signature:
    """
    :param algorithm: a class of ours on one of SB3's algorithms
    :param own: of the constructor that both share, with ``**kwargs``
    :return: the same with SB3's arguments in their place, at the defaults that they have for a single environment without images
    """
    row = algorithm.fixed_method
    changed = algorithm.defaults | algorithm.row_defaults.get(row or algorithm.default_method, {})
    hidden = ("self", "kwargs", "_init_setup_model", *(["method"] if row is not None else []))
    shown = [p for name, p in own.parameters.items() if name not in hidden]
    theirs = [
        p.replace(kind=inspect.Parameter.KEYWORD_ONLY, default=changed.get(name, p.default))
        for name, p in sb3_parameters(algorithm).items()
    ]
    return inspect.Signature([*shown, *theirs])
