"""Settings and statistics beside a checkpoint are found by what the files say, by every reading of a folder alike."""

import re
import shutil

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3 import A2C, DDPG, DQN, PPO, SAC
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import FlattenExtractor
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from envs_for_tests import CountdownEnv
from sb3_distill.agents.errors import CheckpointError
from sb3_distill.agents.find import find_checkpoint, zoo_folders
from sb3_distill.agents.inspection import inspect
from sb3_distill.agents.load import load_teacher
from sb3_distill.agents.training import read_config, training
from sb3_distill.teachers.actor_critic import ActorCriticTeacher
from sb3_distill.teachers.q_network import QTeacher

UUID = "7f0a5c74-8e8c-40c4-a4e0-07f03be4752e"
CONFIG, ARGS = "normalize: true\n", "algo: ppo\nenv: CartPole-v1\n"
#: the source that is given, and where the zip, the statistics, and the settings lie
LAYOUTS = {
    "zoo": ("ppo/CartPole-v1_1", "CartPole-v1.zip", "CartPole-v1/vecnormalize.pkl", "CartPole-v1"),
    "uuid": (f"ppo/CartPole-v1_1_{UUID}", "CartPole-v1.zip", "CartPole-v1/vecnormalize.pkl", "CartPole-v1"),
    "renamed": ("ppo/my agent", "CartPole-v1.zip", "CartPole-v1/vecnormalize.pkl", "CartPole-v1"),
    "best of a run": ("ppo/CartPole-v1_3", "best_model.zip", "CartPole-v1/vecnormalize.pkl", "CartPole-v1"),
    "settings under another name": ("run", "agent.zip", "how/vecnormalize.pkl", "how"),
    "clone of the Hub": ("ppo-CartPole-v1", "ppo-CartPole-v1.zip", "vec_normalize.pkl", "."),
    "snapshot": ("models--sb3--ppo-CartPole-v1/snapshots/abc", "ppo-CartPole-v1.zip", "vec_normalize.pkl", "."),
    "statistics alone": ("saved", "model.zip", "vecnormalize.pkl", None),
    "named as the zip": ("saved", "model.zip", "model_vecnormalize.pkl", None),
    "CheckpointCallback": ("logs", "rl_model_1000_steps.zip", "rl_model_vecnormalize_1000_steps.pkl", None),
    "a prefix of one's own": ("logs", "my_ppo_20_steps.zip", "my_ppo_vecnormalize_20_steps.pkl", None),
    "any name": ("saved", "model.zip", "stats.pkl", None),
}


@pytest.fixture(scope="module")
def normalized(tmp_path_factory):
    """A zip and statistics of its training."""
    folder = tmp_path_factory.mktemp("normalized")
    env = VecNormalize(make_vec_env("CartPole-v1", seed=0))
    model = PPO("MlpPolicy", env, n_steps=8, batch_size=8, policy_kwargs={"net_arch": [4]}, device="cpu", seed=0)
    model.learn(8)
    model.save(folder / "agent.zip")
    env.save(str(folder / "vecnormalize.pkl"))
    return folder, env


def laid_out(root, normalized, layout):
    source, name, statistics, settings = LAYOUTS[layout]
    folder = root / source
    (folder / statistics).parent.mkdir(parents=True)
    shutil.copy(normalized / "agent.zip", folder / name)
    shutil.copy(normalized / "vecnormalize.pkl", folder / statistics)
    if settings is not None:
        (folder / settings / "config.yml").write_text(CONFIG)
        (folder / settings / "args.yml").write_text(ARGS)
    return folder, folder / name


@pytest.mark.parametrize("layout", LAYOUTS)
def test_statistics_are_found(layout, normalized, tmp_path):
    """From the folder and from the zip: the observations are the live VecNormalize's, and inspect sees the same file."""
    folder, path = laid_out(tmp_path, normalized[0], layout)
    obs = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    for source in (folder, path):
        teacher = load_teacher(source, device="cpu")
        np.testing.assert_array_equal(teacher.normalize_obs(obs), normalized[1].normalize_obs(obs))
        if LAYOUTS[layout][3] is not None:
            assert teacher.env_id == "CartPole-v1"
    assert LAYOUTS[layout][2].rpartition("/")[2] in inspect(path).executed


def test_statistics_of_another_zip_are_not_taken(normalized, tmp_path):
    """Each checkpoint of a training has its own; one without any is loaded with a warning."""
    for steps in (1, 2):
        shutil.copy(normalized[0] / "agent.zip", tmp_path / f"m_{steps}_steps.zip")
    shutil.copy(normalized[0] / "vecnormalize.pkl", tmp_path / "m_vecnormalize_1_steps.pkl")
    assert find_checkpoint(tmp_path).name == "m_2_steps.zip", "the last one"
    with pytest.warns(UserWarning, match="trained under a VecNormalize.*vec_normalize=PATH"):
        assert load_teacher(tmp_path / "m_2_steps.zip").normalize_obs is None
    assert load_teacher(tmp_path / "m_1_steps.zip").normalize_obs is not None
    given = load_teacher(tmp_path / "m_2_steps.zip", vec_normalize=tmp_path / "m_vecnormalize_1_steps.pkl")
    assert given.normalize_obs is not None


def test_two_statistics_are_named(normalized, tmp_path):
    """Nothing is guessed; those of other observations are another agent's."""
    shutil.copy(normalized[0] / "agent.zip", tmp_path / "m.zip")
    shutil.copy(normalized[0] / "vecnormalize.pkl", tmp_path / "a.pkl")
    other = VecNormalize(make_vec_env("Pendulum-v1"))
    other.save(str(tmp_path / "b.pkl"))
    assert load_teacher(tmp_path / "m.zip").normalize_obs is not None
    normalized[1].clip_obs, before = 5.0, normalized[1].clip_obs
    normalized[1].save(str(tmp_path / "c.pkl"))
    normalized[1].clip_obs = before
    with pytest.raises(CheckpointError, match=r"a\.pkl, .*c\.pkl: give load_teacher vec_normalize"):
        load_teacher(tmp_path / "m.zip")


@pytest.mark.parametrize("layout", ["zoo", "uuid", "renamed"])
@pytest.mark.parametrize("root", ["", "ppo", "agent"])
def test_a_folder_of_agents(layout, root, normalized, tmp_path, monkeypatch):
    """Of algorithms, of one algorithm, or of one agent; with ~."""
    folder, path = laid_out(tmp_path / "home", normalized[0], layout)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("RL_TRAINED_AGENTS", f"~/{folder.relative_to(tmp_path / 'home') if root == 'agent' else root}")
    assert zoo_folders()["ppo/CartPole-v1"] == folder
    assert load_teacher("zoo:ppo/CartPole-v1").normalize_obs is not None
    assert find_checkpoint("zoo:ppo/CartPole-v1") == path


def test_a_folder_of_agents_that_is_not_there(monkeypatch):
    """It is named by the table and by the error."""
    monkeypatch.setenv("RL_TRAINED_AGENTS", "/nowhere/agents")
    with pytest.warns(UserWarning, match="RL_TRAINED_AGENTS names '/nowhere/agents'"):
        zoo_folders()
    with pytest.raises(FileNotFoundError, match="The folder /nowhere/agents is not there"):
        load_teacher("zoo:ppo/CartPole-v1")


def test_tags_of_python_are_text_where_nobody_needs_them(tmp_path):
    """Nothing of them runs, and where a value is needed they are an error."""
    path = tmp_path / "config.yml"
    path.write_text(
        "policy_kwargs: {activation_fn: !!python/name:torch.nn.modules.activation.ReLU ''}\n"
        "x: !!python/object:os.system {}\nnormalize: true\n"
    )
    assert read_config(path)["normalize"] is True
    path.write_text("normalize: !!python/name:os.system ''\n")
    with pytest.raises(CheckpointError, match="needed"):
        read_config(path)


def test_wrappers_that_cannot_be_made_are_named(tmp_path):
    """When an environment is made."""
    trained = training("CartPole-v1", {"vec_env_wrapper": "my.VecThing"}, None, tmp_path)
    for make in (lambda: trained.make_vec_env(1), lambda: trained.observe(make_vec_env("CartPole-v1"))):
        with pytest.raises(ValueError, match=r"vec_env_wrapper my\.VecThing"):
            make()


@pytest.mark.parametrize(
    ("algorithm", "env_id", "extra"), [(PPO, "CartPole-v1", {}), (DQN, "CartPole-v1", {}), (SAC, "Pendulum-v1", {})]
)
def test_a_policy_and_its_file(algorithm, env_id, extra, normalized, tmp_path):
    """They answer as the model does; a VecNormalize is given by hand."""
    model = algorithm("MlpPolicy", env_id, policy_kwargs={"net_arch": [4]}, device="cpu", seed=0, **extra)
    model.policy.save(str(tmp_path / "policy.pt"))
    soft = {"temperature": 1.0} if algorithm is DQN else {}
    obs = np.stack([model.observation_space.sample().clip(-9, 9) for _ in range(5)])
    expected = load_teacher(model, **soft).answer(obs, True)
    for source in (model.policy, tmp_path / "policy.pt"):
        for mine, theirs in zip(load_teacher(source, device="cpu", **soft).answer(obs, True), expected, strict=True):
            assert th.equal(mine, theirs)
    if env_id == "CartPole-v1":
        teacher = load_teacher(model.policy, vec_normalize=normalized[1], **soft)
        np.testing.assert_array_equal(teacher.normalize_obs(obs), normalized[1].normalize_obs(obs))


class OwnExtractor(FlattenExtractor):
    def __init__(self, space, scale=1.0):
        super().__init__(space)


class OwnPolicy(ActorCriticPolicy):
    pass


@pytest.mark.parametrize(
    ("algorithm", "policy", "kwargs", "own"),
    [
        (
            PPO,
            "MlpPolicy",
            {"features_extractor_class": OwnExtractor},
            "cannot be read: policy_kwargs has features_extractor_class=test_layouts.OwnExtractor",
        ),
        (
            A2C,
            "MlpPolicy",
            {"activation_fn": th.nn.Mish},
            "cannot be read: policy_kwargs has activation_fn=torch.nn.modules.activation.Mish",
        ),
        (PPO, OwnPolicy, {}, "has a policy of its own, test_layouts.OwnPolicy"),
        (
            DQN,
            "MlpPolicy",
            {"features_extractor_kwargs": {"scale": 2.0}, "features_extractor_class": OwnExtractor},
            "cannot be read: policy_kwargs has features_extractor_class=test_layouts.OwnExtractor",
        ),
    ],
)
def test_a_class_of_ones_own_in_a_file_is_named_with_the_way_around_it(algorithm, policy, kwargs, own, tmp_path):
    """In the first line. And the way is one: what is loaded so is a teacher."""
    path, policy_path = tmp_path / "agent.zip", tmp_path / "policy.pt"
    model = algorithm(policy, "CartPole-v1", policy_kwargs=kwargs, device="cpu")
    model.save(path)
    way = f'load_teacher({algorithm.__name__}.load("{path}"))'
    with pytest.raises(CheckpointError, match=rf"^{re.escape(f'{path} {own}, ')}.*{re.escape(way)}.*$"):
        load_teacher(path)
    scope = {"load_teacher": load_teacher, algorithm.__name__: algorithm}
    assert isinstance(eval(way, scope), QTeacher if algorithm is DQN else ActorCriticTeacher)
    if kwargs:  # what policy.save writes does not name its own class
        model.policy.save(str(policy_path))
        with pytest.raises(CheckpointError, match=rf"^{re.escape(f'{policy_path} {own}, ')}.*Policy\.load\("):
            load_teacher(policy_path)


def test_a_hostile_policy_file_runs_nothing(tmp_path):
    """A call in its data is refused."""

    class Canary:
        def __reduce__(self):
            return open, (str(tmp_path / "ran"), "w")

    model = PPO("MlpPolicy", "CartPole-v1", policy_kwargs={"net_arch": [4]}, device="cpu")
    saved = {"state_dict": model.policy.state_dict(), "data": model.policy._get_constructor_parameters()}
    for place in ("observation_space", "net_arch", "activation_fn"):
        th.save(saved | {"data": saved["data"] | {place: Canary()}}, tmp_path / "policy.pt")
        (tmp_path / "ran").unlink(missing_ok=True)
        with pytest.raises(CheckpointError, match="hand over the policy"):
            load_teacher(tmp_path / "policy.pt")
        assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("wrong", [None, 5, [1]])
def test_what_is_no_teacher_is_named(wrong):
    """In one line, with what is allowed."""
    with pytest.raises(ValueError, match=r"Cannot learn from .* give a Teacher") as error:
        load_teacher(wrong)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("algorithm", [SAC, DDPG, DQN])
def test_her_of_sb3_1_0(algorithm, tmp_path):
    """Observation and desired goal were one vector, and statistics are by key: it answers as it did."""
    sizes = {"achieved_goal": 2, "desired_goal": 2, "observation": 5}
    goal_space = spaces.Dict({key: spaces.Box(-9, 9, (n,)) for key, n in sizes.items()})
    actions = spaces.Discrete(3) if algorithm is DQN else spaces.Box(-1, 1, (2,))
    joined = CountdownEnv(spaces.Box(-9, 9, (7,)), actions)
    model = algorithm("MlpPolicy", joined, policy_kwargs={"net_arch": [8]}, buffer_size=2, device="cpu", seed=0)
    env = VecNormalize(DummyVecEnv([lambda: CountdownEnv(goal_space, actions)]))
    for i, rms in enumerate(env.obs_rms.values()):
        rms.mean, rms.var = rms.mean + i + np.arange(len(rms.mean)), rms.var * (2 + i)
    settings = tmp_path / "her" / "Reach-v1_1" / "Reach-v1"
    settings.mkdir(parents=True)
    model.save(settings.parent / "Reach-v1.zip")
    env.save(str(settings / "vecnormalize.pkl"))
    (settings / "config.yml").write_text("normalize: true\nmodel_class: sac\n")
    teacher = load_teacher(settings.parent, device="cpu", **({"temperature": 1.0} if algorithm is DQN else {}))
    goal_space.seed(0)
    obs = {key: np.stack([space.sample() for _ in range(6)]) for key, space in goal_space.spaces.items()}
    normal = env.normalize_obs(obs)
    seen = np.concatenate([normal["observation"], normal["desired_goal"]], axis=1)
    np.testing.assert_allclose(teacher.act(obs), model.predict(seen, deterministic=True)[0], atol=1e-5)
    other = {**obs, "achieved_goal": obs["achieved_goal"][::-1] + 1}
    np.testing.assert_array_equal(teacher.act(obs), teacher.act(other))
    expected = load_teacher(model, **({"temperature": 1.0} if algorithm is DQN else {})).value(seen)
    scale = np.sqrt(env.ret_rms.var + env.epsilon)
    np.testing.assert_allclose(teacher.value(obs), expected * scale, rtol=1e-4, atol=1e-5)
