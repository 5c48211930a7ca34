"""``RayVecEnv``: what needs a cluster is in ``inside_ray.py``, which runs in a network of its own with one cluster for all of it."""

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from ray_episodes import Episodes, functions, play
from ray_namespace import run_inside
from stable_baselines3.common.vec_env import SubprocVecEnv

from sb3_distill.envs import RayVecEnv, ray_vec_env


class Here:
    """As much of Ray as RayVecEnv uses, with all actors in this process; one of which can be told to be lost."""

    class RayError(Exception):
        pass

    class Other(RayError):
        pass

    exceptions = SimpleNamespace(RayError=RayError, RayTaskError=Other, RaySystemError=Other, RpcError=Other)
    cpus = 3.0

    def __init__(self):
        self.lost, self.n_messages = set(), 0

    def cluster_resources(self):
        return {"CPU": self.cpus}

    available_resources = cluster_resources

    def remote(self, **options):
        self.options = options
        return lambda cls: SimpleNamespace(remote=lambda *args: self._actor(cls(*args)))

    def _actor(self, real):
        def call(message):
            self.n_messages += 1
            return None if real in self.lost else real.call(message)

        return SimpleNamespace(real=real, call=SimpleNamespace(remote=call))

    def get(self, refs):
        if isinstance(refs, list):
            return [self.get(ref) for ref in refs]
        if refs is None:
            raise self.RayError("its process is gone\nand more")
        return refs

    def wait(self, refs, num_returns=1, timeout=None):
        return refs, []

    def kill(self, actor):
        self.lost.add(actor.real)


@pytest.fixture
def here(monkeypatch):
    here = Here()
    monkeypatch.setattr(ray_vec_env, "connected", lambda address: here)
    return here


@pytest.mark.parametrize("kind", ["Box", "Discrete", "Dict", "Tuple"])
def test_each_kind_of_observation_is_as_subproc_vec_env_has_it(kind, here):
    theirs = SubprocVecEnv(functions(kind), start_method="fork")
    ours = RayVecEnv(functions(kind), envs_per_actor=2)
    assert len(ours._actors) == 2
    assert play(ours) == play(theirs)
    theirs.close()
    before = here.n_messages
    ours.step(np.zeros((3, 2), np.float32))
    assert here.n_messages - before == 2  # one for each actor


def test_environments_are_shared_out_among_the_cpus_that_are_free(here):
    assert len(RayVecEnv([Episodes] * 7)._actors) == 3
    assert here.options["num_cpus"] == 1 and here.options["scheduling_strategy"] == "SPREAD"
    assert len(RayVecEnv([Episodes] * 2)._actors) == 2
    with pytest.raises(ValueError, match=r"8 actors of 1 CPUs .* 3 CPUs .*: take envs_per_actor=3, or num_cpus=0"):
        RayVecEnv([Episodes] * 8, envs_per_actor=1)
    assert len(RayVecEnv([Episodes] * 8, envs_per_actor=1, num_cpus=0)._actors) == 8


def test_an_actor_that_is_lost_again_and_again_is_an_error(here):
    env = RayVecEnv([Episodes] * 2, envs_per_actor=1)
    env.reset()
    with pytest.warns(UserWarning), pytest.raises(RuntimeError, match="was lost 4 times without a step in between"):
        for _ in range(4):
            here.lost.add(env._actors[1].real)
            env.step(np.zeros((2, 2), np.float32))
    fresh = RayVecEnv([Episodes])
    here.lost.add(fresh._actors[0].real)
    fresh._send = lambda *message: None  # the new one, too
    with pytest.warns(UserWarning), pytest.raises(RuntimeError, match="was lost 4 times"):
        fresh.reset()


def test_rewards_of_lost_episodes_are_of_the_others_kind(here):
    """SB3's buffers would not mind, and neither does the type of what is learnt from."""
    env = RayVecEnv(functions("Dict"), envs_per_actor=2)
    env.seed(3)
    env.set_options({"length": 9})
    env.reset()
    seen, *_ = env.step(np.zeros((3, 2), np.float32))
    here.lost.add(env._actors[0].real)
    with pytest.warns(
        UserWarning, match=r"Actor 0 \(environments 0 to 1\) was lost \(RayError: its process is gone\).*after 1, 1 st"
    ):
        obs, rewards, dones, infos = env.step(np.ones((3, 2), np.float32))
    assert rewards.dtype == np.float64 and rewards.tolist() == [0, 0, 2] and dones.tolist() == [True, True, False]
    assert obs["a"].tolist() == [0, 0, 2]
    last = infos[1]["terminal_observation"]
    assert (
        last["a"] == seen["a"][1] == 1 and np.array_equal(last["b"], seen["b"][1]) and infos[1]["TimeLimit.truncated"]
    )


def broken():
    raise FileNotFoundError("level.map")


def test_environments_that_cannot_be_made(here):
    with pytest.raises(FileNotFoundError, match=r"level\.map") as caught:
        RayVecEnv([Episodes, broken], envs_per_actor=2)
    assert "in environment 1:" in str(caught.value.__cause__) and "in broken\n" in str(caught.value.__cause__)


def test_actions_are_as_many_as_environments(here):
    env = RayVecEnv([Episodes] * 3)
    with pytest.raises(ValueError, match="2 actions are not one for each of 3"):
        env.step(np.zeros((2, 2), np.float32))
    with pytest.raises(RuntimeError, match="follows step_async"):
        env.step_wait()


def test_a_teacher_stays_where_it_is(here, tmp_path):
    """A memory is recorded, and the teacher plays; what goes to the actors is actions."""
    from envs_for_tests import actor_critic_teacher
    from sb3_distill import TeacherDistill
    from sb3_distill.memory import record

    def learnt(env):
        env.seed(1)
        model = TeacherDistill(
            "MlpPolicy", env, teacher=actor_critic_teacher(env), n_steps=8, batch_size=8, seed=0, device="cpu"
        )
        return [p.detach().numpy().tobytes() for p in model.learn(48).policy.parameters()]

    theirs = SubprocVecEnv(functions("Box"), start_method="fork")
    ours = RayVecEnv(functions("Box"), envs_per_actor=2)
    assert learnt(ours) == learnt(theirs)
    memories = [
        record(actor_critic_teacher(env), env, 60, tmp_path / name, seed=0)
        for name, env in (("o", ours), ("t", theirs))
    ]
    assert len(memories[0]) == len(memories[1]) > 0
    theirs.close()


def test_on_a_cluster():
    """It is a SubprocVecEnv to the bit, and actors that are lost come back."""
    inside = Path(__file__).with_name("inside_ray.py")
    done = run_inside("-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "--durations=10", str(inside))
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]


def test_what_cannot_be_is_said_before_ray_is_looked_for(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ValueError, match="env_fns is empty"):
        RayVecEnv([])
    with pytest.raises(TypeError, match=r"env_fns\[0\] is no function"):
        RayVecEnv([object()])
    with pytest.raises(TypeError, match="list of functions"):
        RayVecEnv(object)
    for number in (0, 1.5, True):
        with pytest.raises(ValueError, match="envs_per_actor must be a whole number"):
            RayVecEnv([object], envs_per_actor=number)
    with pytest.raises(ValueError, match="num_cpus must be"):
        RayVecEnv([object], num_cpus=-1)
    with pytest.raises(ImportError, match=r"pip install 'sb3-distill\[ray\]'"):
        RayVecEnv([object])


@pytest.mark.parametrize(
    ("address", "error", "said"),
    [("nonsense", ValueError, "is no address of Ray"), ("127.0.0.1:1", ConnectionError, "No Ray cluster answers at")],
)
def test_a_cluster_that_is_not_there_is_said(address, error, said):
    pytest.importorskip("ray")
    with pytest.raises(error, match=said):
        RayVecEnv([object], address=address)
