"""Students with an LSTM: what they remember, where, and that padding teaches nothing."""

import copy

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from sb3_contrib import RecurrentPPO
from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.vec_env import DummyVecEnv, VecExtractDictObs

import sb3_distill
from envs_for_tests import ACTION_SPACES, actor_critic_teacher
from sb3_classes import countdown_envs, teacher_for
from sb3_distill import (
    DistillPPO,
    DistillRecurrentPPO,
    DistillTRPO,
    MutualDistillation,
    NDistill,
    NDistillA2C,
    NDistillRecurrentPPO,
    OnPolicyDistillRecurrentPPO,
    PolicyDistillation,
)
from sb3_distill.algorithms.engines import ENGINES
from sb3_distill.algorithms.whitening import Statistics, whitened
from sb3_distill.rules.distributions import from_parameters, parameters
from sb3_distill.rules.losses import kl

SMALL = dict(n_steps=16, batch_size=8, n_epochs=2, seed=0, device="cpu")
CLASSES = ENGINES["recurrent_ppo"].classes


def recurrent(cls=NDistillRecurrentPPO, env=None, policy="MlpLstmPolicy", policy_kwargs=None, **kwargs):
    env = countdown_envs() if env is None else env
    policy_kwargs = dict(net_arch=[8], lstm_hidden_size=8) | (policy_kwargs or {})
    return cls(policy, env, **({"teacher": teacher_for(env)} | SMALL | dict(policy_kwargs=policy_kwargs) | kwargs))


def same_weights(a, b):
    return all(th.equal(x, y) for x, y in zip(a.policy.parameters(), b.policy.parameters(), strict=True))


# --- an independent student: torch's LSTM, unrolled by hand over whole episodes ---------------------------------------


def cell(lstm, x, state):
    """One step of an LSTM of one layer, as its definition has it."""
    h, c = state
    gates = lstm.weight_ih_l0 @ x + lstm.bias_ih_l0 + lstm.weight_hh_l0 @ h + lstm.bias_hh_l0
    i, f, g, o = gates.chunk(4)
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    return o.sigmoid() * c.tanh(), c


def unrolled(policy, observations, starts, state):
    """Parameters of π_θ along one environment's observations, and what the LSTM keeps after each."""
    outputs, states = [], []
    for obs, start in zip(observations, starts, strict=True):
        if start:
            state = (th.zeros_like(state[0]), th.zeros_like(state[1]))
        state = cell(policy.lstm_actor, obs, state)
        latent = policy.mlp_extractor.forward_actor(state[0][None])
        outputs.append(parameters(policy._get_action_dist_from_latent(latent))[0])
        states.append(state)
    return th.stack(outputs), states


class Heard:
    """A student's rollouts as SB3 has them, copied before minibatches are made of them."""

    def __init__(self, model):
        self.rollouts = []
        finish = type(model)._finish_rollout

        def copied(compute, last_values, heard, answer):
            finish(model, compute, last_values, heard, answer)
            b = model.rollout_buffer
            self.rollouts.append(
                dict(
                    obs=th.from_numpy(b.observations.copy()),
                    starts=b.episode_starts.copy(),
                    rewards=b.rewards.copy(),
                    h=th.from_numpy(b.hidden_states_pi[0, 0].copy()),
                    c=th.from_numpy(b.cell_states_pi[0, 0].copy()),
                    teacher=answer.parameters.clone(),
                    student=heard.student_parameters.clone(),
                    last_obs=th.as_tensor(np.array(model._last_obs)),
                    last_starts=np.array(model._last_episode_starts),
                    continues=np.stack(heard.tap.continues),
                    truncated=[
                        (t, i, np.array(seen))
                        for (t, i, _), seen in zip(heard.tap.truncated, heard.env.truncated, strict=True)
                    ],
                    policy=copy.deepcopy(model.policy.state_dict()),
                )
            )

        model._finish_rollout = copied


# --- gradients --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("space", ["discrete", "box"])
@pytest.mark.parametrize("batch_size", [32, 12])
def test_a_minibatchs_gradient_is_that_of_whole_sequences_by_plain_autograd(space, batch_size):
    """Across ends of episodes and environments, where minibatches begin within an episode, and without what fills them up."""
    space = {"discrete": spaces.Discrete(3), "box": ACTION_SPACES["box"]}[space]
    env = countdown_envs(action_space=space)
    model = recurrent(
        OnPolicyDistillRecurrentPPO,
        env,
        batch_size=batch_size,
        n_epochs=1,
        averaging=0.0,
        whitening=False,
        max_grad_norm=1e9,
    )
    heard = Heard(model)
    model.learn(32)  # so that the second rollout begins with something remembered
    gradients, orders = [], []
    model.policy.optimizer.step = lambda *args, **kwargs: gradients.append(
        {name: None if p.grad is None else p.grad.clone() for name, p in model.policy.named_parameters()}
    )
    get_samples = model.rollout_buffer._get_samples
    model.rollout_buffer._get_samples = lambda batch, *rest: (orders.append(batch), get_samples(batch, *rest))[1]
    model.learn(32, reset_num_timesteps=False)
    rollout = heard.rollouts[-1]
    assert rollout["starts"][1:].any() and rollout["h"].abs().max() > 0.01

    n_steps, n_envs = rollout["starts"].shape
    ours = copy.deepcopy({k: v for k, v in model.policy.state_dict().items()})
    assert len(gradients) == len(orders) == -(-32 // batch_size)
    assert all(th.equal(ours[name], rollout["policy"][name]) for name in ours)  # no step was made
    policy = model.policy
    teacher = rollout["teacher"][: n_steps * n_envs].reshape(n_steps, n_envs, -1)
    for batch, gradient in zip(orders, gradients, strict=True):
        policy.zero_grad()
        losses, chosen = [], set(batch.tolist())
        for i in range(n_envs):
            state = (rollout["h"][i], rollout["c"][i])
            before = False
            for t in range(n_steps):
                k = i * n_steps + t
                if (
                    not before
                ):  # the minibatch begins here, or has left states out: what was remembered when it was played
                    state = tuple(part.detach() for part in state)
                out, (state,) = unrolled(policy, rollout["obs"][t : t + 1, i], rollout["starts"][t : t + 1, i], state)
                # The last one of a wrapped order and the first of the next begin a sequence as well.
                before = k in chosen and k != batch[-1]
                if k in chosen:
                    pi = from_parameters(space, teacher[t, i][None])
                    losses.append(kl(pi, from_parameters(space, out)))
        assert len(losses) == len(batch)
        th.cat(losses).mean().backward()
        for name, p in policy.named_parameters():
            if name.startswith(("lstm_actor", "mlp_extractor.policy_net", "action_net", "log_std")):
                assert p.grad.abs().max() > 1e-6
                np.testing.assert_allclose(gradient[name], p.grad, atol=1e-6, rtol=1e-4, err_msg=name)


def test_what_fills_sequences_up_may_be_anything():
    """A loss of infinity there is no NaN in the gradient, and the mean is of states alone."""
    model = recurrent(OnPolicyDistillRecurrentPPO, batch_size=12)
    model.learn(32)
    losses = []

    class Filled:
        def __init__(self, buffer):
            self.get_samples = buffer._get_samples

        def __call__(self, batch, *rest):
            samples = self.get_samples(batch, *rest)
            mask = samples.mask > 1e-8
            samples.observations[~mask] = 1e30
            losses.append(bool((~mask).any()))
            return samples

    model.rollout_buffer._get_samples = Filled(model.rollout_buffer)
    model.learn(32, reset_num_timesteps=False)
    assert any(losses)
    assert all(p.isfinite().all() for p in model.policy.parameters())


# --- rewards ----------------------------------------------------------------------------------------------------------


class Cut(gym.Env):
    """Noise; episodes of three to six steps end, or are cut by a time limit."""

    observation_space = spaces.Box(-1, 1, (3,), np.float32)
    action_space = spaces.Discrete(3)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.left, self.cut = int(self.np_random.integers(3, 7)), bool(self.np_random.integers(2))
        return self._obs(), {}

    def step(self, action):
        self.left -= 1
        done = self.left == 0
        return self._obs(), 1.0, done and not self.cut, done and self.cut, {}

    def _obs(self):
        return self.np_random.uniform(-1, 1, 3).astype(np.float32)


def cut_envs(n_envs=3):
    env = DummyVecEnv([Cut] * n_envs)
    env.seed(1)
    return env


def without_values(model):
    """Which SB3 adds to rewards at time limits."""
    model.policy.value_net.weight.data.zero_()


def test_the_reward_of_the_next_state_is_of_what_the_student_remembers_there():
    """r̂ = −γ KL at s_{t+1}: at time limits the state after the last one of the episode, with the memory of that episode; within the
    rollout, and at its end."""
    env = cut_envs()
    model = recurrent(NDistillRecurrentPPO, env, n_steps=7, batch_size=21, reward_coef=1.0, vf_coef=0.0, gamma=0.9)
    without_values(model)
    heard = Heard(model)
    policy, at_last_step = recurrent(env=env).policy, []
    model.learn(21 * 12)
    for rollout in heard.rollouts:
        policy.load_state_dict(rollout["policy"])
        n_steps, n_envs = rollout["starts"].shape
        expected = np.zeros((n_steps, n_envs))
        answers = rollout["teacher"]
        n = n_steps * n_envs
        with th.no_grad():
            for i in range(n_envs):
                obs = th.cat([rollout["obs"][:, i], rollout["last_obs"][i][None]])
                starts = [*rollout["starts"][:, i], rollout["last_starts"][i]]
                out, states = unrolled(policy, obs, starts, (rollout["h"][i], rollout["c"][i]))
                np.testing.assert_allclose(out[:-1], rollout["student"].reshape(n_steps, n_envs, -1)[:, i], atol=1e-5)
                for t in range(n_steps):
                    theirs, mine = answers[(t + 1) * n_envs + i], out[t + 1]
                    for k, (step, j, seen) in enumerate(rollout["truncated"]):
                        if (step, j) == (t, i):
                            theirs = answers[n + n_envs + k]
                            mine = unrolled(policy, th.from_numpy(seen)[None], [False], states[t])[0][0]
                            at_last_step.append(t == n_steps - 1)
                    pair = (from_parameters(env.action_space, x[None]) for x in (theirs, mine))
                    expected[t, i] = -0.9 * rollout["continues"][t, i] * float(kl(*pair))
        np.testing.assert_allclose(rollout["rewards"], expected, atol=1e-5)
    assert any(at_last_step) and not all(at_last_step)


def test_the_ratio_of_entropy_regularised_is_of_states_with_memory():
    """r̂ = log π(a|s) − log π_θ(a|s), the latter as it was drawn."""
    model = recurrent(sb3_distill.EntropyRegularisedRecurrentPPO, cut_envs(), n_steps=8, vf_coef=0.0)
    without_values(model)
    heard = Heard(model)
    model.learn(24)
    (rollout,) = heard.rollouts
    pi = from_parameters(model.action_space, rollout["teacher"][:24])
    actions = th.from_numpy(model.rollout_buffer.actions).reshape(3, 8).T.flatten().long()
    log_probs = th.from_numpy(model.rollout_buffer.log_probs).reshape(3, 8).T.flatten()
    np.testing.assert_allclose(rollout["rewards"].flatten(), pi.log_prob(actions) - log_probs, atol=1e-5)


# --- SB3 --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("row", [row for row in CLASSES if row != "teacher_distill"])
def test_where_distillation_is_off_it_is_recurrent_ppo_to_the_bit(row):
    settings = dict(learning_rate=1e-3, gamma=0.9, gae_lambda=0.8, vf_coef=0.5, max_grad_norm=0.5, clip_range_vf=0.2)
    settings |= SMALL | dict(n_epochs=1, batch_size=11, policy_kwargs=dict(net_arch=[8], lstm_hidden_size=8))
    off = dict(env_reward_coef=1.0)
    model = CLASSES[row]("MlpLstmPolicy", countdown_envs(), **settings)
    off |= {} if model._row.loss is None else dict(loss_coef=0.0)
    off |= {} if model._row.reward is None else dict(reward_coef=0.0)
    teacher = teacher_for(countdown_envs())
    ours = CLASSES[row]("MlpLstmPolicy", countdown_envs(), teacher=teacher, **off, **settings).learn(64)
    theirs = RecurrentPPO("MlpLstmPolicy", countdown_envs(), **settings).learn(64)
    assert same_weights(ours, theirs)
    assert ours.predict(np.ones((2, 3), np.float32), deterministic=True)[1] is not None


@pytest.mark.parametrize("row", list(CLASSES))
def test_every_row_learns_and_its_zip_is_recurrent_ppos(row, tmp_path):
    cls = CLASSES[row]
    model = recurrent(cls, n_epochs=1)
    before = copy.deepcopy(model.policy)
    model.learn(32)
    assert any(not th.equal(a, b) for a, b in zip(before.parameters(), model.policy.parameters(), strict=True))
    model.learn(32, reset_num_timesteps=False)
    assert model.num_timesteps == 64
    model.save(tmp_path / "student")
    plain = RecurrentPPO.load(tmp_path / "student", device="cpu")
    assert type(plain) is RecurrentPPO and same_weights(plain, model)
    ours = cls.load(tmp_path / "student", env=countdown_envs(n_envs=3), teacher=model.teacher, device="cpu")
    assert same_weights(ours, model)
    ours.learn(48)


@pytest.mark.parametrize("name", list(ACTION_SPACES))
def test_actions_and_observations_of_every_kind(name):
    dicts = spaces.Dict({"a": spaces.Box(-1, 1, (2,), np.float32), "b": spaces.Discrete(3)})
    for space, policy in ((None, "MlpLstmPolicy"), (dicts, "MultiInputLstmPolicy")):
        env = countdown_envs(space, ACTION_SPACES[name])
        model = recurrent(NDistillRecurrentPPO, env, policy, n_epochs=1)
        model.learn(32)
        assert np.isfinite(model.logger.name_to_value["distill/loss"])


@pytest.mark.parametrize(
    "settings",
    [
        dict(weight="v_conditioned", method="on_policy_distill", vf_coef=0.5),
        dict(weight="proximal", method="on_policy_distill"),
        dict(weight="return_ratio", teacher_return=5.0, random_return=1.0),
        dict(critic="teacher"),
        dict(critic="td"),
        dict(method="teacher_v_reward", baseline="student"),
        dict(control="mixed", beta=0.5, beta_per="episode"),
        dict(env_reward_coef=1.0),
        dict(averaging=1.0),
        dict(form="paper", method="expected_entropy"),
    ],
    ids=str,
)
def test_what_rows_may_have(settings):
    model = recurrent(DistillRecurrentPPO, cut_envs(), n_epochs=1, **settings).learn(48)
    assert all(p.isfinite().all() for p in model.policy.parameters())


def test_the_same_rows_count_in_a_weight_as_in_its_loss():
    """ρ is 1 before the first step, in all states and nowhere else."""
    model = recurrent(
        DistillRecurrentPPO, cut_envs(), batch_size=48, n_epochs=1, method="on_policy_distill", weight="proximal"
    )
    model.learn(48)
    assert model.logger.name_to_value["distill/weight"] == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize(
    "policy_kwargs",
    [dict(shared_lstm=True, enable_critic_lstm=False), dict(enable_critic_lstm=False), dict(n_lstm_layers=2)],
    ids=str,
)
def test_whitened_it_is_the_same_function_and_learns(policy_kwargs):
    env = countdown_envs(action_space=ACTION_SPACES["box"])
    model = recurrent(NDistillRecurrentPPO, env, policy_kwargs=policy_kwargs, n_epochs=1)
    policy, n = model.policy, 6
    layers, _, size = policy.lstm_hidden_state_shape
    memory = tuple(th.randn(layers, 2, size) for _ in range(2))
    obs, starts = th.randn(n, 3), th.tensor([1.0, 0, 0, 0, 0, 0])

    def ask():
        with th.no_grad():
            values = policy.predict_values(obs, memory, starts)
            return th.cat([parameters(policy.get_distribution(obs, memory, starts)[0]), values], dim=1)

    before = ask()
    with whitened(policy, Statistics(9, [1.0, -2.0, 3.0], [4.0, 0.25, 9.0])):
        np.testing.assert_allclose(ask(), before, atol=1e-5)
    np.testing.assert_allclose(ask(), before, atol=1e-5)
    model.learn(32)
    assert model.observation_statistics.n == 32


def test_a_network_that_cannot_be_whitened_learns_as_it_is():
    env = countdown_envs(action_space=ACTION_SPACES["box"])
    model = recurrent(NDistillRecurrentPPO, env, policy_kwargs=dict(lstm_kwargs=dict(bias=False)), n_epochs=1)
    assert model.learn(32).observation_statistics is None


def test_a_mean_of_weights_has_the_statistics_of_its_batch_norm():
    class Normed(BaseFeaturesExtractor):
        def __init__(self, space):
            super().__init__(space, 3)
            self.norm = th.nn.BatchNorm1d(3)

        def forward(self, obs):
            return self.norm(obs)

    model = recurrent(policy_kwargs=dict(features_extractor_class=Normed), averaging=1.0, n_epochs=1).learn(64)
    assert model.policy.features_extractor.norm.running_var.isfinite().all()


def test_it_builds_for_images():
    image = spaces.Box(0, 255, (3, 36, 36), np.uint8)
    env = countdown_envs(image)
    model = NDistillRecurrentPPO("CnnLstmPolicy", env, n_steps=4, device="cpu", policy_kwargs=dict(lstm_hidden_size=8))
    assert isinstance(model.policy, RecurrentActorCriticPolicy) and model.rollout_buffer.obs_shape == (3, 36, 36)


# --- teachers ---------------------------------------------------------------------------------------------------------


def test_a_recurrent_teacher_and_students_that_teach_each_other():
    teacher = recurrent(env=countdown_envs()).learn(32)
    student = recurrent(teacher=teacher, env=countdown_envs(), n_epochs=1).learn(64)
    assert type(student.teacher).__name__ == "RecurrentTeacher"
    paid = dict(method="on_policy_distill", loss_coef=0.1, env_reward_coef=1.0, n_epochs=1)
    MutualDistillation([recurrent(DistillRecurrentPPO, teacher=None, **paid, seed=seed) for seed in (1, 2)]).learn(64)


def test_a_student_learns_what_only_memory_tells():
    """The teacher sees which way to go at all times, the student in the first step alone."""

    class Told(gym.Env):
        observation_space = spaces.Dict({name: spaces.Box(-1, 1, (1,), np.float32) for name in ("told", "way")})
        action_space = spaces.Discrete(2)

        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            self.way, self.t = int(self.np_random.integers(2)), 0
            return self.obs(), {}

        def obs(self):
            way = np.array([2.0 * self.way - 1], np.float32)
            return {"told": way * (self.t == 0), "way": way}

        def step(self, action):
            self.t += 1
            return self.obs(), float(action == self.way), self.t == 6, False, {}

    env = DummyVecEnv([Told] * 8)
    env.seed(0)
    env = VecExtractDictObs(env, "told")
    settings = dict(
        teacher=lambda obs: int(obs[0] > 0), teacher_obs=lambda e: VecExtractDictObs(e, "way"), n_steps=32, seed=0
    )
    student = OnPolicyDistillRecurrentPPO(
        "MlpLstmPolicy",
        env,
        batch_size=128,
        n_epochs=5,
        policy_kwargs=dict(net_arch=[], lstm_hidden_size=16),
        **settings,
    )
    assert played(student.learn(1_536)) > 0.97
    assert played(DistillPPO("MlpPolicy", env, method="on_policy_distill", **settings).learn(1_536)) < 0.8


def played(model, n_steps=24):
    """Mean reward of greedy play."""
    obs, state, starts, rewards = model.env.reset(), None, np.ones(model.n_envs), []
    for _ in range(n_steps):
        actions, state = model.predict(obs, state, starts, deterministic=True)
        obs, reward, starts, _ = model.env.step(actions)
        rewards.append(reward.mean())
    return np.mean(rewards)


# --- errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cls", "policy", "message"),
    [
        (
            NDistill,
            "MlpLstmPolicy",
            "^MlpLstmPolicy has a memory, which NDistill does not train: take NDistillRecurrentPPO, or",
        ),
        (
            NDistillA2C,
            RecurrentActorCriticPolicy,
            "has a memory, which NDistillA2C does not train: take NDistillRecurrentPPO",
        ),
        (DistillTRPO, "CnnLstmPolicy", "take DistillRecurrentPPO"),
        (
            NDistillRecurrentPPO,
            "MlpPolicy",
            "^MlpPolicy has no memory, and NDistillRecurrentPPO trains one: .* or take NDistill",
        ),
        (DistillRecurrentPPO, "MultiInputPolicy", "give 'MlpLstmPolicy', .* or take DistillPPO"),
    ],
)
def test_a_policy_of_the_other_kind_is_refused_with_the_class_to_use(cls, policy, message):
    with pytest.raises(ValueError, match=message):
        cls(policy, "CartPole-v1")


@pytest.mark.parametrize("policy", ["MlpLstmPolicy", RecurrentActorCriticPolicy])
def test_a_memory_of_single_states_has_no_sequences(policy):
    with pytest.raises(ValueError, match=r"^RecurrentActorCriticPolicy has a memory, and .* take DistillRecurrentPPO"):
        PolicyDistillation(policy, "CartPole-v1", student="ppo", teacher=actor_critic_teacher(countdown_envs()))
