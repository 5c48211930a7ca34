"""What was exported teaches: files that remember the episode, that take masks, and whose inputs are the keys of a Dict."""

import warnings
from copy import deepcopy

import numpy as np
import pytest
import torch as th
from agents import SMALL, UNEVEN, VECTOR, made, written
from gymnasium import spaces
from sb3_contrib import MaskablePPO, RecurrentPPO
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import DummyVecEnv

from envs_for_tests import CountdownEnv
from sb3_distill import OnPolicyDistill, load_teacher
from sb3_distill.evaluation.episodes import episode_returns


class Paid(CountdownEnv):
    """Pays what is done, with the number of the step."""

    def step(self, action):
        obs, _, *rest = super().step(action)
        return obs, float(np.sum(action)) * self.step_count, *rest


LSTM = dict(policy_kwargs=dict(net_arch=[8], lstm_hidden_size=6, n_lstm_layers=2))


@pytest.fixture(scope="module", params=["discrete", "box"])
def remembering(request, tmp_path_factory):
    """An agent, its file, and what makes its environments."""
    actions = spaces.Discrete(3) if request.param == "discrete" else UNEVEN
    model = made(RecurrentPPO, VECTOR, actions, **LSTM)
    with th.no_grad():  # so that no action is the best one everywhere
        for name, weights in model.policy.named_parameters():
            weights *= 0 if name == "action_net.bias" else 3
    path = written(model, tmp_path_factory.mktemp(request.param) / "agent.onnx", n_observations=100).path
    return model, path, lambda n=3: DummyVecEnv([lambda: Paid(deepcopy(VECTOR), actions)] * n)


def test_a_file_that_remembers_plays_as_its_agent_does(remembering):
    """Each environment has a state of its own, forgotten where an episode begins; the network is there once."""
    model, path, envs = remembering
    teacher = load_teacher(path, env=envs(1))
    assert teacher.reads_a_view and teacher.asked.begun().owner.function is teacher.asked.owner.function
    want = episode_returns(model, envs, 4, seed=5)
    np.testing.assert_allclose(episode_returns(teacher, envs, 4, seed=5), want, rtol=1e-4)
    np.testing.assert_allclose(
        episode_returns(teacher, envs(2), 4, seed=5), want, rtol=1e-4
    )  # one episode after the other
    assert len(np.unique(want)) > 1


def test_what_it_says_is_what_the_agent_says(remembering):
    """Along episodes and in their last states, against the teacher that the agent itself is."""
    model, path, envs = remembering
    discrete = isinstance(model.action_space, spaces.Discrete)
    found = load_teacher(path, **(dict(answers="logits") if discrete else {}), env=envs(1))
    right = load_teacher(model)
    seen = [(teacher, teacher.view(envs())) for teacher in (found, right)]
    obs = []
    for _, env in seen:
        env.seed(1)
        obs.append(env.reset())

    def compare(obs):
        params = [teacher.answer(one).parameters for (teacher, _), one in zip(seen, obs, strict=True)]
        if discrete:
            np.testing.assert_allclose(*params, atol=1e-4)
        else:
            low, high = (th.as_tensor(bound) for bound in (UNEVEN.low, UNEVEN.high))
            np.testing.assert_allclose(params[0][:, :2], params[1][:, :2].clamp(low, high), atol=1e-4)

    n_ends = 0
    for _ in range(12):
        compare(obs)
        actions = right.act(obs[1])
        steps = [env.step(actions) for _, env in seen]
        obs = [step[0] for step in steps]
        for i in np.flatnonzero(steps[0][2]):
            compare([step[3][i]["terminal_observation"][None] for step in steps])
            n_ends += 1
    assert n_ends >= 6


def test_it_teaches(remembering):
    _, path, envs = remembering
    student = OnPolicyDistill(
        "MlpPolicy", envs(), teacher=str(path), n_steps=8, batch_size=24, device="cpu", policy_kwargs=SMALL
    )
    student.learn(48)


def test_a_file_that_takes_masks(tmp_path):
    """All actions are allowed in it, and what is forbidden is left out of what it says: the same distribution."""
    model = made(MaskablePPO, VECTOR, spaces.Discrete(4))
    path = written(model, tmp_path / "agent.onnx", n_observations=100).path
    teacher = load_teacher(path, answers="logits", observation_space=VECTOR, action_space=spaces.Discrete(4))
    obs, masks = np.float32([[0.1, 0.2, 0.3], [0.5, -0.5, 0]]), np.array([[1, 0, 1, 1], [0, 1, 1, 0]], bool)
    for given in ({}, {"masks": masks}):
        found, right = (t.answer(obs, **given).parameters.exp() for t in (teacher, load_teacher(model)))
        np.testing.assert_allclose(found, right, atol=1e-6)


def test_keys_that_are_names_of_other_inputs(tmp_path):
    space = spaces.Dict({"action": VECTOR, "b": spaces.Discrete(3)})
    model = made(PPO, space, spaces.Discrete(2))
    path = written(model, tmp_path / "agent.onnx", n_observations=100).path
    teacher = load_teacher(path, answers="logits", observation_space=space, action_space=spaces.Discrete(2))
    obs = {"action": np.float32([[0.1, 0.2, 0.3]]), "b": np.array([2])}
    np.testing.assert_allclose(*(t.answer(obs).parameters for t in (teacher, load_teacher(model))), atol=1e-6)


def write_counter(path, state="hidden", following="next_hidden", batch="n", layers=1):
    """Adds up what it sees: ``action`` is the sum so far, and so is the state."""
    import onnx

    helper, kind = onnx.helper, onnx.TensorProto.FLOAT

    def info(name, shape):
        return helper.make_tensor_value_info(name, kind, shape)

    nodes = [
        helper.make_node("Add", ["obs", state], [following]),
        helper.make_node("ReduceSum", [following], ["action"], keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [info("obs", [batch, 3]), info(state, [batch, 3])],
        [info("action", []), info(following, [batch, 3])],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)


def test_a_state_of_another_name(tmp_path):
    """Any input that an output gives to the next step; no episode_start is needed."""
    write_counter(tmp_path / "sum.onnx")
    box = spaces.Box(-100, 100, (1,), np.float32)
    teacher = load_teacher(tmp_path / "sum.onnx", observation_space=VECTOR, action_space=box)
    asked = teacher.asked.begun()
    said = [float(asked.rows(np.ones((1, 3), np.float32), box)[0, 0]) for _ in range(3)]
    asked.owner.reset()
    assert [*said, float(asked.rows(np.ones((1, 3), np.float32), box)[0, 0])] == [3, 6, 9, 3]


@pytest.mark.parametrize(
    "layout",
    [dict(state="h_in", following="h_out"), dict(batch=4)],
)
def test_another_layout_is_told_what_is_expected(layout, tmp_path):
    write_counter(tmp_path / "sum.onnx", **layout)
    with pytest.raises(ValueError, match=r"(?s)sum\.onnx.*an output next_… from which the next step has it"):
        load_teacher(tmp_path / "sum.onnx", observation_space=VECTOR, action_space=spaces.Box(-1, 1, (1,)))


def test_batches_have_no_memory(remembering):
    with pytest.raises(ValueError, match="batched=True: nothing says which states of a batch are of one"):
        load_teacher(remembering[1], batched=True)


def test_images_are_laid_out_as_the_file_takes_them(tmp_path):
    """A student with a CnnPolicy has its environment's channels first, and the file has them last; so has a function of a user's."""
    image, actions = spaces.Box(0, 255, (36, 40, 2), np.uint8), spaces.Discrete(3)
    model = made(PPO, image, actions, policy="CnnPolicy", randomise=False)
    path = written(model, tmp_path / "agent.onnx", n_observations=4).path
    last = np.random.default_rng(0).integers(256, size=(5, 36, 40, 2), dtype=np.uint8)
    right = load_teacher(model).answer(last).parameters
    for space in (image, model.observation_space):
        teacher = load_teacher(path, answers="logits", observation_space=space, action_space=actions)
        for obs in (last, last.transpose(0, 3, 1, 2)):
            np.testing.assert_allclose(teacher.answer(obs).parameters, right, atol=1e-5)
    shapes = set()

    def controller(obs):
        shapes.add(obs.shape)
        return 1

    own = load_teacher(controller, observation_space=image, action_space=actions)
    env = DummyVecEnv([lambda: CountdownEnv(image, actions)])
    OnPolicyDistill("CnnPolicy", env, teacher=own, n_steps=8, batch_size=8, device="cpu").learn(8)
    assert shapes == {(36, 40, 2)}


def test_values_from_files_and_names(tmp_path, monkeypatch):
    """Of an ONNX file, the one that acts or another, of MODULE:NAME and of a module: the same numbers as the network's own."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "critics_of_mine.py").write_text("def critic(obs):\n    return 3.0\n")

    class Both(th.nn.Linear):
        def forward(self, obs):
            both = super().forward(obs)
            return both[:, :2], both[:, 2]

    names = dict(input_names=["obs"], output_names=["logits", "value"], dynamic_axes={"obs": {0: "n"}})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        net = Both(4, 3)
        th.onnx.export(net, (th.zeros(1, 4),), "both.onnx", dynamo=False, **names)
    obs = th.randn(5, 4).numpy()
    with th.no_grad():
        want = net(th.from_numpy(obs))[1].numpy()
    rule = dict(env="CartPole-v1", answers="logits")
    for value, values in [("both.onnx", want), (lambda obs: 3.0, 3.0), ("critics_of_mine:critic", 3.0)]:
        teacher = load_teacher("both.onnx", value=value, **rule)
        np.testing.assert_allclose(teacher.answer(obs, with_value=True).value, values, rtol=1e-5, atol=1e-6)


def test_values_of_who_remembers_are_refused(remembering):
    """A value is asked for single states, in no order."""
    _, path, envs = remembering

    class Critic:
        def reset(self):
            pass

        def __call__(self, obs):
            return 0.0

    for value in (str(path), Critic()):
        with pytest.raises(ValueError, match=r"^value=.* remembers the episode"):
            load_teacher(lambda obs: 0, answers="action", value=value, env=envs(1))
