"""What a class is trained with can be seen before anything is trained, and is what its students have."""

import doctest
import inspect

import pytest
from stable_baselines3 import A2C, PPO

from envs_for_tests import IMAGE_SPACE
from sb3_classes import A2C_CLASSES, CLASSES, PPO_CLASSES, countdown_envs
from sb3_distill import METHODS, DistillPPO, NDistill, OnPolicyDistill
from sb3_distill.algorithms import distillation, prepared, trpo
from sb3_distill.rules.methods import CROSS_ENTROPY, Method, get_method

#: what SB3 keeps under another name, or makes of it
ELSEWHERE = {
    "stats_window_size",
    "device",
    "policy_kwargs",
    "use_rms_prop",
    "rms_prop_eps",
    "rollout_buffer_class",
    "rollout_buffer_kwargs",
}


def value(model, name):
    found = vars(model)[name]
    if name == "gamma" and model.gamma_schedule is not None:
        found = model.gamma_schedule
    return getattr(found, "value_schedule", found)


def same(a, b):
    constant = getattr(a, "val", a), getattr(b, "val", b)
    return a is b or str(a) == str(b) or constant[0] == constant[1]


@pytest.mark.parametrize("images", [False, True])
@pytest.mark.parametrize("n_envs", [1, 8])
@pytest.mark.parametrize("cls", CLASSES)
def test_settings_are_those_of_a_student(cls, n_envs, images):
    env = countdown_envs(IMAGE_SPACE if images else None, n_envs=n_envs)
    given = {"max_grad_norm": 3.0} if cls in PPO_CLASSES + A2C_CLASSES else {"gae_lambda": 0.7}
    model = cls("CnnPolicy" if images else "MlpPolicy", env, device="cpu", **given)
    settings = cls.settings(env, **given)
    for name, told in settings.items():
        if name not in ELSEWHERE:
            assert same(told, value(model, name)), (name, told, value(model, name))


REFUSED = [
    {"gamma": 1.5},
    {"gae_lambda": -0.1},
    {"gamma": "x"},
    {"n_steps": 0},
    {"n_epochs": "x"},
    {"max_grad_norm": 0},
    {"learning_rate": -1e-3},
    {"learning_rate": lambda progress: progress - 0.5},
    {"averaging": 2},
    {"averaging": "x"},
    {"loss_coef": -1},
    {"reward_coef": float("nan")},
    {"env_reward_coef": "x"},
    {"method": "on_policy_distill", "reward_coef": 1.0},
    {"control": "mixed", "method": "on_policy_distill"},
    {"beta": 0.5},
    {"control": "mixed", "method": "on_policy_distill", "beta": 1.5},
    {"control": "teacher", "env_reward_coef": 1.0, "method": "on_policy_distill"},
    {"control": "teacher"},
]


@pytest.mark.parametrize("given", REFUSED, ids=lambda given: " ".join(given))
def test_what_the_constructor_refuses_is_no_setting(given):
    """With the same words."""
    with pytest.raises(ValueError) as refused:
        DistillPPO("MlpPolicy", "CartPole-v1", device="cpu", **given)
    with pytest.raises(ValueError) as told:
        DistillPPO.settings("CartPole-v1", **given)
    assert str(told.value) == str(refused.value)


@pytest.mark.parametrize("cls", CLASSES)
def test_every_argument_is_in_the_signature(cls):
    shown = inspect.signature(cls).parameters
    theirs = inspect.signature(next(base for base in cls.__mro__ if base.__module__.startswith(("stable", "sb3_con"))))
    assert shown.keys() >= theirs.parameters.keys() - {"_init_setup_model"}
    assert {"teacher", "form", "loss_coef", "averaging", "weight", "beta"} <= shown.keys()
    assert ("method" in shown) == (cls.fixed_method is None)


def test_defaults_in_the_signature_are_the_rows():
    shown = inspect.signature(NDistill).parameters
    assert (shown["gamma"].default, shown["clip_range"].default, shown["n_epochs"].default) == (0.9, 0.2, 20)
    assert inspect.signature(PPO).parameters["gamma"].default == 0.99
    assert inspect.signature(A2C) != inspect.signature(PPO)


def test_a_class_of_the_users_own_keeps_its_own_signature():
    class Mine(DistillPPO):
        def __init__(self, policy, env, colour="red", **kwargs):
            super().__init__(policy, env, **kwargs)

    assert list(inspect.signature(Mine).parameters) == ["policy", "env", "colour", "kwargs"]


def test_unknown_arguments_are_named():
    with pytest.raises(ValueError, match="NDistill has no setting 'gama': did you mean 'gamma'"):
        NDistill.settings("CartPole-v1", gama=0.9)
    for name, meant in (("gama", "gamma"), ("techer", "teacher"), ("learningrate", "learning_rate")):
        with pytest.raises(TypeError, match=f"^NDistill has no argument '{name}': did you mean '{meant}'"):
            NDistill("MlpPolicy", "CartPole-v1", **{name: 0.9})
    with pytest.raises(TypeError, match=r"^EntropyRegularisedTRPO has no argument 'n_epochs': "):
        trpo.EntropyRegularisedTRPO("MlpPolicy", "CartPole-v1", n_epochs=3)


def test_an_algorithm_of_the_users_own_may_take_more():
    class Mine(PPO):
        def __init__(self, *args, colour="red", **kwargs):
            self.colour = colour
            super().__init__(*args, **kwargs)

    class DistillMine(distillation.Distillation, Mine):
        defaults = DistillPPO.defaults

    model = DistillMine("MlpPolicy", countdown_envs(), colour="blue", n_steps=8, batch_size=8)
    assert model.colour == "blue" and model.n_epochs == 15


@pytest.mark.parametrize("name", list(METHODS["paper"]))
def test_a_row_given_whole_has_the_settings_of_its_form(name):
    """As form="paper" has them, where the row is the paper's alone: both forms share three of them."""
    by_row, by_form = (
        DistillPPO.settings("CartPole-v1", method=method, **form)
        for method, form in ((METHODS["paper"][name], {}), (name, dict(form="paper")))
    )
    shared = METHODS["paper"][name] in METHODS["unbiased"].values()
    assert by_row == (DistillPPO.settings("CartPole-v1", method=name) if shared else by_form)
    model = DistillPPO("MlpPolicy", countdown_envs(), method=METHODS["paper"][name])
    assert (model.gamma_schedule or model.gamma, model.averaging) == (by_row["gamma"], by_row["averaging"])
    assert DistillPPO.settings("CartPole-v1", method=METHODS["unbiased"]["n_distill"])["gamma"] == 0.9


@pytest.mark.parametrize(
    ("row", "settings"),
    [
        (METHODS["unbiased"]["n_distill"], {"form": "paper"}),
        (METHODS["paper"]["n_distill"], {"form": "unbiased"}),
        (METHODS["unbiased"]["teacher_v_reward"], {"baseline": "student"}),
        (get_method("teacher_v_reward", baseline="student"), {"baseline": "teacher"}),
        (Method("mine", "student", CROSS_ENTROPY), {"baseline": "student"}),
        (METHODS["unbiased"]["on_policy_distill"], {"control": "teacher"}),
        (METHODS["unbiased"]["on_policy_distill"], {"weight": "v_conditioned"}),
    ],
)
def test_a_row_beside_a_setting_that_says_something_else_is_an_error(row, settings):
    ((name, said),) = settings.items()
    with pytest.raises(ValueError, match=f"given whole, and {name}='{said}' says something else: leave {name} out"):
        DistillPPO("MlpPolicy", countdown_envs(), method=row, **settings)


@pytest.mark.parametrize("form", ["unbiased", "paper"])
def test_a_row_beside_settings_that_say_the_same_is_that_row(form):
    row = METHODS[form]["n_distill"]
    model = DistillPPO("MlpPolicy", countdown_envs(), method=row, form=form, control="student")
    assert model._row is row
    assert OnPolicyDistill("MlpPolicy", countdown_envs(), control="uniform").control == "uniform"


@pytest.mark.parametrize("module", [prepared, trpo])
def test_doctests_run(module):
    result = doctest.testmod(module, optionflags=doctest.ELLIPSIS)
    assert (result.failed, result.attempted > 0) == (0, True)
