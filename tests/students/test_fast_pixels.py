"""Images reach a network as SB3 prepares them, and where bfloat16 is used it is used for the student's convolutions alone."""

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3 import DQN, PPO
from stable_baselines3.common import policies
from stable_baselines3.common.envs import FakeImageEnv
from stable_baselines3.common.preprocessing import preprocess_obs

from sb3_distill import DistillPPO, PolicyDistillation, load_teacher
from sb3_distill.students import pixels
from sb3_distill.students.nature_cnn import student_arch
from sb3_distill.students.pixels import Pixels, fast_pixels, multiplies_bfloat16_faster

FRAMES = spaces.Box(0, 255, (4, 84, 84), np.uint8)


def atari_like(n_actions=18):
    return FakeImageEnv(n_actions, n_channels=4, channel_first=True)


@pytest.mark.parametrize("share_features_extractor", [True, False])
def test_fast_pixels_change_no_value_and_no_gradient(share_features_extractor):
    """Forward and backward of a policy, one batch after the other in one block of memory, against SB3's own."""
    model = PPO(
        "CnnPolicy",
        atari_like(),
        policy_kwargs={"share_features_extractor": share_features_extractor},
        n_steps=8,
        batch_size=8,
        device="cpu",
        seed=0,
    )
    generator = th.Generator().manual_seed(0)
    results = {}
    for fast in (False, True):
        generator.manual_seed(0)
        read = Pixels() if fast else preprocess_obs
        results[fast] = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(policies, "preprocess_obs", read)
            for n in (16, 3, 8):
                obs = th.randint(0, 256, (n, 4, 84, 84), dtype=th.uint8, generator=generator)
                values, log_prob, _ = model.policy.evaluate_actions(obs, th.zeros(n))
                model.policy.zero_grad()
                (values.sum() + log_prob.sum()).backward()
                results[fast] += [values.detach(), log_prob.detach(), model.policy.predict_values(obs).detach()]
                results[fast] += [p.grad.clone() for p in model.policy.parameters()]
    for ours, theirs in zip(results[True], results[False], strict=True):
        assert th.allclose(ours, theirs, rtol=1e-4, atol=1e-5 * float(theirs.abs().max()))


def test_pixels_are_sb3s_to_the_bit():
    obs = th.randint(0, 256, (3, 4, 84, 84), dtype=th.uint8)
    read = Pixels()
    assert th.equal(read(obs, FRAMES), preprocess_obs(obs, FRAMES))
    assert read(obs, FRAMES).is_contiguous(memory_format=th.channels_last)
    assert read(obs, FRAMES, normalize_images=False).max() > 1
    vectors = spaces.Box(-1, 1, (5,))
    assert th.equal(read(th.ones(2, 5), vectors), th.ones(2, 5))


def test_a_late_backward_pass_is_refused():
    """The next images overwrite the ones that a gradient still needs: torch says so instead of taking the wrong ones."""
    read, conv = Pixels(), th.nn.Conv2d(4, 2, 8, 4)
    batches = [th.randint(0, 256, (2, 4, 84, 84), dtype=th.uint8) for _ in range(2)]
    late = conv(read(batches[0], FRAMES)).sum()
    read(batches[1], FRAMES)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        late.backward()


def test_pixels_in_bfloat16_are_the_nearest_there_are():
    """Bytes over 255, rounded once."""
    obs = th.arange(256, dtype=th.uint8).reshape(1, 4, 8, 8)
    space = spaces.Box(0, 255, (4, 8, 8), np.uint8)
    read = Pixels()
    with th.autocast("cpu", th.bfloat16):
        half = read(obs, space)
    assert half.dtype == th.bfloat16
    assert th.equal(half, preprocess_obs(obs, space).bfloat16())
    assert th.equal(read(obs, space), preprocess_obs(obs, space)), "the same batch, for another network"


def network(seed):
    return PPO("CnnPolicy", atari_like(), n_steps=8, batch_size=8, device="cpu", seed=seed).policy


def gradients(policy, obs):
    values, log_prob, _ = policy.evaluate_actions(obs, th.zeros(len(obs)))
    policy.zero_grad()
    (values.square().sum() + log_prob.sum()).backward()
    return th.cat([p.grad.flatten() for p in policy.parameters()])


def test_bfloat16_is_for_one_policy_and_rounds():
    """Its gradients turn by a degree and stay float32; the other network has the values that it has without."""
    student, other = network(0), network(1)
    obs = th.randint(0, 256, (16, 4, 84, 84), dtype=th.uint8, generator=th.Generator().manual_seed(0))
    with fast_pixels(student, False):
        exact, others = gradients(student, obs), other.predict_values(obs)
    with fast_pixels(student, True):
        rounded = gradients(student, obs)
        assert th.equal(other.predict_values(obs), others)
    assert rounded.dtype == th.float32
    assert not th.equal(rounded, exact)
    assert th.nn.functional.cosine_similarity(rounded, exact, dim=0) > 0.999
    with fast_pixels(student, False):
        assert th.equal(gradients(student, obs), exact), "afterwards it is as it was"


def test_weights_that_stay_the_same_are_rounded_once():
    """To what they are rounded to every time otherwise; what they become meanwhile counts when the context is over."""
    student, later = network(0), network(1)
    obs = th.randint(0, 256, (2, 4, 84, 84), dtype=th.uint8, generator=th.Generator().manual_seed(0))

    def features():
        with th.no_grad():
            return student.extract_features(obs, student.features_extractor)

    with fast_pixels(student, True):
        before = features()
    with fast_pixels(student, True, same_weights=True):
        assert th.equal(features(), before)
        with th.no_grad():
            for bias in (module.bias for module in student.features_extractor.modules() if hasattr(module, "bias")):
                bias.add_(1.0)
        assert th.equal(features(), before), "they were rounded again"
        with th.no_grad():
            other = later.extract_features(obs, later.features_extractor)
    with fast_pixels(student, True):
        assert not th.equal(features(), before)
    with fast_pixels(student, False), th.no_grad():
        assert th.equal(later.extract_features(obs, later.features_extractor), other), "another network was rounded"


@pytest.mark.parametrize("faster", [True, False])
def test_bfloat16_where_the_device_is_made_for_it(monkeypatch, faster):
    """And the policy sees images. Else one has to ask for it."""
    monkeypatch.setattr(pixels, "multiplies_bfloat16_faster", lambda device: faster)
    student = network(0)
    vectors = PPO("MlpPolicy", "CartPole-v1", device="cpu").policy
    linear = vectors.features_extractor = th.nn.Linear(4, 4)
    obs, some = th.randint(0, 256, (4, 4, 84, 84), dtype=th.uint8), th.rand(5, 4)
    seen = []
    student.features_extractor.cnn[0].register_forward_hook(lambda conv, args, out: seen.append(out.dtype))
    for wanted, images, others in ((None, faster, False), (True, True, True), (False, False, False)):
        with fast_pixels(student, wanted), th.no_grad():
            assert student.extract_features(obs, student.features_extractor).dtype == th.float32
        assert seen.pop() == (th.bfloat16 if images else th.float32)
        with fast_pixels(vectors, wanted), th.no_grad():
            assert th.equal(vectors.extract_features(some, linear), linear(some)) != others


def test_what_the_device_is_made_for():
    assert multiplies_bfloat16_faster("cpu") in (True, False)
    assert not multiplies_bfloat16_faster("mps")


def flat(modules):
    return th.cat([p.detach().flatten().clone() for p in modules.parameters()])


def same_direction(students):
    """Of what training has changed, by whether it was in mixed precision."""
    (before, exact), (_, rounded) = students[False], students[True]
    assert not th.equal(rounded, exact)
    return th.nn.functional.cosine_similarity(rounded - before, exact - before, dim=0) > 0.98


def test_a_student_in_mixed_precision_learns_nearly_the_same():
    """From the same answers of its teacher, to the bit."""
    teacher = load_teacher(DQN("CnnPolicy", atari_like(4), buffer_size=1, device="cpu", seed=0), temperature=0.01)
    students, asked = {}, {}
    for mixed in (False, True):
        kwargs = {"policy_kwargs": student_arch("7%"), "batch_size": 32, "n_epochs": 2, "seed": 0, "device": "cpu"}
        env = atari_like(4)
        env.observation_space.seed(0)
        kwargs |= {"method": "teacher_distill", "n_steps": 32, "mixed_precision": mixed}
        student = DistillPPO("CnnPolicy", env, teacher=teacher, **kwargs)
        before = flat(student.policy)
        student.learn(32)
        students[mixed] = before, flat(student.policy)
        asked[mixed] = student.rollout_buffer.teacher_parameters
    assert np.array_equal(asked[True], asked[False])
    assert same_direction(students)


def test_so_does_one_that_learns_offline():
    teacher = load_teacher(DQN("CnnPolicy", atari_like(4), buffer_size=1, device="cpu", seed=0))
    students = {}
    for mixed in (False, True):
        kwargs = {"policy_kwargs": student_arch("4%"), "train_freq": 16, "gradient_steps": 2, "batch_size": 8}
        env = atari_like(4)
        env.observation_space.seed(0)
        kwargs |= {"mixed_precision": mixed, "seed": 0, "device": "cpu"}
        student = PolicyDistillation("CnnPolicy", env, teacher=teacher, **kwargs)
        before = flat(student.policy.q_net)
        student.learn(16)
        students[mixed] = before, flat(student.policy.q_net)
    assert same_direction(students)


def test_nothing_is_left_behind():
    extract_features = policies.BaseModel.extract_features
    with fast_pixels(network(0)):
        assert policies.preprocess_obs is not preprocess_obs
        assert policies.BaseModel.extract_features is not extract_features
    assert policies.preprocess_obs is preprocess_obs
    assert policies.BaseModel.extract_features is extract_features
