"""From a student to reinforcement learning that does not forget: a plain model of SB3's, settings for that, a critic and a leash."""

import math
from collections.abc import Callable
from numbers import Real
from typing import Any, NamedTuple

import gymnasium as gym
from gymnasium import spaces
from sb3_contrib import TRPO, MaskablePPO, RecurrentPPO
from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy
from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.type_aliases import GymEnv
from stable_baselines3.common.utils import LinearSchedule
from stable_baselines3.common.vec_env import VecEnv

from sb3_distill.algorithms.critic_warmup import CriticWarmup
from sb3_distill.algorithms.leash import Leash
from sb3_distill.algorithms.rollout_size import batch_that_fits, steps_that_fill
from sb3_distill.algorithms.settings import sb3_class, sb3_parameters
from sb3_distill.algorithms.student_policy import check_numbers
from sb3_distill.common.env_ids import check_env_id
from sb3_distill.common.given_env import check_env
from sb3_distill.common.layers import raw_env
from sb3_distill.common.nearest import nearest
from sb3_distill.common.spaces import same_kind
from sb3_distill.common.whole_numbers import check_whole

#: by the names that ``algorithm`` takes
ALGORITHMS: dict[str, type[OnPolicyAlgorithm]] = {
    "ppo": PPO,
    "a2c": A2C,
    "trpo": TRPO,
    "maskable_ppo": MaskablePPO,
    "recurrent_ppo": RecurrentPPO,
}


class RLSettings(NamedTuple):
    """How a student goes on.

    :param rollout: steps of a rollout, of all environments together
    :param warmup: rollouts in which the critic learns alone
    :param settings: of the algorithm
    """

    rollout: int
    warmup: int
    settings: dict[str, Any]


#: What keeps a policy with continuous actions, a low rate and large minibatches, is too timid for one with discrete actions.
#: λ of 0.98 and bounded steps keep a good policy of a task that rewards late: with 0.95 MountainCar's loses a third of what it had.
_KEEPING = {"learning_rate": 3e-4, "batch_size": 128, "n_epochs": 10, "gae_lambda": 0.98, "target_kl": 0.01}
DISCRETE: dict[type[OnPolicyAlgorithm], RLSettings] = {
    PPO: RLSettings(2_048, 4, _KEEPING),
    A2C: RLSettings(256, 32, {"learning_rate": 3e-4, "normalize_advantage": True}),
    TRPO: RLSettings(2_048, 4, {"learning_rate": 1e-3, "batch_size": 128, "target_kl": 0.01}),
    # It has no leash: a bound on each step in its place.
    RecurrentPPO: RLSettings(1_024, 8, {"learning_rate": 3e-4, "batch_size": 128, "n_epochs": 10, "target_kl": 0.01}),
    MaskablePPO: RLSettings(2_048, 4, _KEEPING),
}
CONTINUOUS: dict[type[OnPolicyAlgorithm], RLSettings] = {
    PPO: RLSettings(4_096, 2, {"learning_rate": 1e-4, "batch_size": 256, "n_epochs": 10, "target_kl": 0.01}),
    A2C: RLSettings(1_024, 8, {"learning_rate": 1e-4, "normalize_advantage": True}),
    TRPO: RLSettings(4_096, 2, {"learning_rate": 1e-3, "batch_size": 256, "target_kl": 0.01}),
    RecurrentPPO: RLSettings(4_096, 2, {"learning_rate": 1e-4, "batch_size": 256, "n_epochs": 10, "target_kl": 0.01}),
}
#: of the critic while it learns alone: nothing can be lost
WARMUP_RATE = 3e-3
#: of the environment's return, where nothing says another
GAMMA = 0.99


def rl_settings(algorithm: type[OnPolicyAlgorithm], action_space: spaces.Space) -> RLSettings:
    """
    :param algorithm: PPO, A2C, TRPO, MaskablePPO or RecurrentPPO
    :param action_space: of the student
    :return: what it goes on with
    """
    return (CONTINUOUS if isinstance(action_space, spaces.Box) else DISCRETE)[algorithm]


def rl_model(
    student: OnPolicyAlgorithm,
    algorithm: str | type[OnPolicyAlgorithm] | None = None,
    env: GymEnv | None = None,
    **settings: Any,
) -> OnPolicyAlgorithm:
    """
    A model of SB3's own with the student's policy, and settings for reinforcement learning; its optimiser begins anew.

    :param student: distilled or cloned: any on-policy model of SB3's or of this package
    :param algorithm: ``"ppo"``, ``"a2c"``, ``"trpo"`` or the class; by default the student's own. A masked student goes on with
        MaskablePPO, one that remembers with RecurrentPPO, and no other one does
    :param env: to learn in, by default the student's
    :param settings: of the algorithm, in place of those of :func:`rl_settings`
    :return: PPO, A2C, TRPO or MaskablePPO
    :raises ValueError: for a student of another kind, without an environment, or one that saw other observations; for an unknown
        algorithm
    :raises TypeError: for a setting that the algorithm does not have
    """
    kinds = (ActorCriticPolicy, MaskableActorCriticPolicy)
    if not isinstance(student, OnPolicyAlgorithm) or not isinstance(student.policy, kinds):
        raise ValueError(
            f"{type(student).__name__} has no policy that PPO, A2C, TRPO or MaskablePPO go on from: give a student of theirs (of policy "
            "distillation, one with student='ppo')."
        )
    found = _algorithm_of(student, algorithm)
    if (found is RecurrentPPO) != isinstance(student.policy, RecurrentActorCriticPolicy):
        raise ValueError(
            f"{found.__name__} does not train {type(student.policy).__name__}: a student that remembers goes on with 'recurrent_ppo', and "
            "one that does not with 'ppo', 'a2c' or 'trpo'."
        )
    env = student.env if env is None else env
    _check_sees(student, env)
    known = sb3_parameters(found)
    for name in settings:
        if name not in known:
            raise TypeError(f"{found.__name__} has no setting {name!r}: {nearest(name, known)}")
    if "policy_kwargs" in settings:
        raise ValueError("The policy that goes on is the student's, and so are its policy_kwargs: leave them out.")
    check_numbers(settings)
    if callable(settings.get("gamma")):
        raise ValueError(
            f"gamma of {found.__name__} is a number, not a schedule, which is for students: give gamma=0.99, say."
        )
    if isinstance(settings.get("learning_rate"), str):
        raise ValueError(f"learning_rate must be a number or a schedule, not {settings['learning_rate']!r}.")
    n_envs = getattr(env, "num_envs", 1)
    usual = rl_settings(found, student.action_space)
    chosen = usual.settings | {
        "n_steps": max(1, usual.rollout // n_envs),
        "gamma": gamma_of(getattr(student, "teacher", None)),
    }
    if "batch_size" in chosen and "n_steps" not in settings:
        size = settings.get("batch_size") or chosen["batch_size"]
        chosen["n_steps"] = steps_that_fill(chosen["n_steps"], size, n_envs)
    elif "batch_size" in chosen and "batch_size" not in settings:
        chosen["batch_size"] = batch_that_fits(chosen["batch_size"], settings["n_steps"] * n_envs)
    arch = {k: v for k, v in student.policy_kwargs.items() if k not in ("optimizer_class", "optimizer_kwargs")}
    same = {
        "policy_kwargs": arch,
        "seed": student.seed,
        "verbose": student.verbose,
        "tensorboard_log": student.tensorboard_log,
        "device": student.device,
    }
    if found is not MaskablePPO:
        same |= {"use_sde": student.use_sde, "sde_sample_freq": student.sde_sample_freq}
    policy_class: Any = student.policy_class
    on: Any = env
    model = found(policy_class, on, **(chosen | same | settings))
    model.policy.load_state_dict(student.policy.state_dict())
    return model


def rl_callbacks(
    model: OnPolicyAlgorithm,
    total_timesteps: int,
    warmup: int | None = None,
    leash: float | None = None,
    policy: ActorCriticPolicy | None = None,
) -> list[BaseCallback]:
    """
    What keeps a policy from being forgotten, for ``learn`` of :func:`rl_model`'s model.

    :param model: to learn
    :param total_timesteps: of ``learn``: no more than a quarter of it goes to the critic alone
    :param warmup: rollouts in which the critic learns alone, by default as :func:`rl_settings` has it
    :param leash: at first, by default 1; it falls to 0 in the first half. 0 for none, as TRPO and RecurrentPPO have
    :param policy: what the leash is tied to, by default the model's as ``learn`` begins
    :return: callbacks
    :raises ValueError: for a leash of TRPO or RecurrentPPO
    """
    has_leash = not isinstance(model, (TRPO, RecurrentPPO))
    if leash and not has_leash:
        raise ValueError(
            f"{type(model).__name__} has no leash, its target_kl holds it, and leash={leash!r} would do nothing: leave it out."
        )
    if warmup is None:
        rollout = model.n_steps * model.n_envs
        usual = rl_settings(type(model), model.action_space)
        warmup = max(1, min(usual.warmup * usual.rollout, total_timesteps // 4) // rollout)
    callbacks: list[BaseCallback] = [CriticWarmup(warmup, WARMUP_RATE)]
    leash = 1.0 if leash is None else leash
    if leash and has_leash:
        callbacks.append(Leash(LinearSchedule(leash, 0.0, 0.5), policy))
    return callbacks


def then_rl(
    student: OnPolicyAlgorithm,
    total_timesteps: int,
    *,
    algorithm: str | type[OnPolicyAlgorithm] | None = None,
    env: GymEnv | None = None,
    warmup: int | None = None,
    leash: float | None = None,
    callback: BaseCallback | list[BaseCallback] | Callable[..., bool] | None = None,
    progress_bar: bool = False,
    log_interval: int = 1,
    **settings: Any,
) -> OnPolicyAlgorithm:
    """
    Go on from a student by reinforcement learning that does not forget what it can.

    The policy is taken over by a plain PPO, A2C or TRPO with settings for the kind of its actions. For some rollouts its critic learns
    alone, whatever it had learnt; then the policy learns, held at first by a pull towards the student as it was, KL(π_0‖π_θ), whose
    coefficient falls to 0 in the first half.

    >>> from sb3_distill import OnPolicyDistill, then_rl
    >>> student = OnPolicyDistill("MlpPolicy", "CartPole-v1", teacher="zoo:dqn/CartPole-v1", seed=0).learn(256)
    >>> then_rl(student, 512, n_steps=256)  # doctest: +ELLIPSIS
    <stable_baselines3.ppo.ppo.PPO object at ...>

    :param student: distilled or cloned: any on-policy model of SB3's or of this package
    :param total_timesteps: environment steps, over all environments
    :param algorithm: ``"ppo"``, ``"a2c"``, ``"trpo"`` or the class; by default the student's own;
        a student that remembers goes on with ``"recurrent_ppo"``, and no other does
    :param env: to learn in, by default the student's
    :param warmup: rollouts in which the critic learns alone, at least 0; by default some thousand steps
    :param leash: the coefficient of the KL at first, at least 0, by default 1; TRPO's trust region is its own, and RecurrentPPO has
        ``target_kl`` in its place
    :param callback: of the user's, besides
    :param progress_bar: whether to show one
    :param log_interval: rollouts between two log entries
    :param settings: of the algorithm, such as ``learning_rate`` and ``gamma``
    :return: a model of SB3's own, trained; what it saves needs nothing of this package (but a network that is of this package)
    :raises ValueError: for a student of another kind, without an environment, or one that saw other observations; for an unknown
        algorithm
    :raises TypeError: for a setting that the algorithm does not have
    """
    check_whole("total_timesteps", total_timesteps, 1)
    check_whole("log_interval", log_interval, 1)
    if warmup is not None:
        check_whole("warmup", warmup, 0)
    if not (callback is None or isinstance(callback, (BaseCallback, list)) or callable(callback)):
        raise ValueError(f"callback must be a callback of SB3's, a list of such, or a function, not {callback!r}.")
    if leash is not None and (
        isinstance(leash, bool) or not isinstance(leash, Real) or not 0 <= float(leash) < math.inf
    ):
        raise ValueError(
            f"leash must be a number of at least 0, with which the pull begins, not {leash!r}. Another course is a callback: leash=0, "
            "callback=Leash(schedule)."
        )
    model = rl_model(student, algorithm, env, **settings)
    callbacks: list[Any] = rl_callbacks(model, total_timesteps, warmup, leash)
    if callback is not None:
        callbacks += callback if isinstance(callback, list) else [callback]
    if env is None or env is student.env:
        student._last_obs = None  # its environment is played by another now
    return model.learn(int(total_timesteps), callbacks, log_interval, progress_bar=progress_bar)


def _algorithm_of(student: OnPolicyAlgorithm, asked: str | type[OnPolicyAlgorithm] | None) -> type[OnPolicyAlgorithm]:
    if asked is None:
        found: Any = sb3_class(type(student))
    else:
        found = ALGORITHMS.get(asked.lower()) if isinstance(asked, str) else asked
    if found in ALGORITHMS.values():
        masked = isinstance(student.policy, MaskableActorCriticPolicy)
        if masked != (found is MaskablePPO):
            theirs = "a policy of MaskablePPO's, which" if masked else "a policy that is not masked, which"
            raise ValueError(
                f"This {type(student).__name__} has {theirs} {found.__name__} cannot go on from: leave algorithm={asked!r} out."
            )
        return found  # type: ignore[no-any-return]
    if asked is None:
        raise ValueError(
            f"A student of {found.__name__} cannot go on here: PPO, A2C, TRPO, MaskablePPO and RecurrentPPO can."
        )
    if isinstance(asked, str):
        raise ValueError(f"Unknown algorithm {asked!r}: {nearest(asked, ALGORITHMS)}")
    raise ValueError(
        f"algorithm must be {', '.join(map(repr, ALGORITHMS))} or the class of one of these, not {asked!r}."
    )


def gamma_of(teacher: Any) -> float:
    """
    :param teacher: or None
    :return: the discount of the returns that its value function is of; 0.99 where nothing says another
    """
    gamma = getattr(teacher, "gamma", None)
    return GAMMA if gamma is None else float(gamma)


def _check_sees(student: OnPolicyAlgorithm, env: Any) -> None:
    """:raises ValueError: if there is no environment, or the student has learnt to see something else than what it shows"""
    name = type(student).__name__
    if env is None:
        raise ValueError(f"This {name} has no environment: give env=…, or load it with one.")
    if env is student.env:
        return
    check_env(env)
    if isinstance(env, str):
        check_env_id(env)
    made = isinstance(env, str)
    seen = gym.make(env) if made else env
    try:
        for kind in ("observation", "action"):
            mine, theirs = (getattr(of, f"{kind}_space") for of in (student, seen))
            if not same_kind(mine, theirs):
                raise ValueError(
                    f"The student saw other {kind}s than these: its {kind} space is {mine}, the environment's {theirs}. Make the "
                    "environment with the wrappers of its training."
                    if kind == "observation"
                    else f"The student has other actions than these: its action space is {mine}, the environment's {theirs}."
                )
    finally:
        if made:
            seen.close()
    theirs, mine = raw_env(env)[1] if isinstance(env, VecEnv) else None, student.get_vec_normalize_env()
    is_normalized = theirs is not None and theirs.norm_obs
    if mine is None and theirs is not None and not theirs.norm_obs:
        return  # said by the user: a student that was loaded does not tell what its VecNormalize did
    was_normalized = mine.norm_obs if mine is not None else student._last_original_obs is not None
    if was_normalized != is_normalized:
        raise ValueError(
            "The student saw observations of a VecNormalize, and the environment has none: put the VecNormalize of its training "
            "around it, VecNormalize.load(path, env)."
            if was_normalized
            else "The student saw observations as they are, and the environment has a VecNormalize around it: leave that out, or "
            "normalise rewards alone, norm_obs=False."
        )
