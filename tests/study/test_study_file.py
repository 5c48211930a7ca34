"""A study's file: what it means, and that all that is wrong with it is found before anything runs, each with its line."""

import pytest
from stable_baselines3 import DQN

from sb3_distill import Study
from sb3_distill.study.faults import StudyError
from sb3_distill.study.scores import places


def faults(tmp_path, text):
    path = tmp_path / "study.yml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(StudyError) as caught:
        Study(path)
    assert str(caught.value).startswith(str(path))
    return [(fault.line, fault.text) for fault in caught.value.faults]


def test_all_faults_are_listed_with_their_lines(tmp_path):
    found = faults(
        tmp_path,
        """title: [1]
environment: [CartPole-v1]
environments: [CartPole-v1, CartPol-v1]
methods:
  - n-distil
  - {method: n-distill, stepz: 3}
engines: [pppo]
teachers: [zoo:dqn/CartPole-v7]
students: [[0], {size: 12%}]
seeds: []
fixed:
  steps: -1
  learning_rate: fast
  seed: 1
changes:
  - {where: {metod: n-distill}, steps: 8}
resources: {cpu: 1}
""",
    )
    expected = [
        (1, "title must be text"),
        (2, "Unknown key 'environment': did you mean 'environments'?"),
        (3, "Unknown environment 'CartPol-v1': did you mean 'CartPole-v1'"),
        (5, "Unknown method 'n-distil': did you mean 'n_distill'"),
        (6, "Unknown setting 'stepz': did you mean 'steps'"),
        (7, "Unknown engine 'pppo': did you mean 'ppo'"),
        (8, "CartPole-v7"),
        (9, "12%"),
        (9, "net_arch must be a list of whole numbers of at least 1"),
        (10, "seeds is empty, and so is the product"),
        (12, "steps must be a whole number of at least 1, not -1"),
        (13, "learning_rate must be a number, not 'fast'"),
        (16, "Unknown setting 'metod': did you mean 'method'"),
        (17, "Unknown resource 'cpu': did you mean 'cpus'"),
    ]
    assert [line for line, _ in found] == [line for line, _ in expected]
    for (line, text), (_, part) in zip(found, expected, strict=True):
        assert part in text, (line, text)


@pytest.mark.parametrize(
    ("text", "line", "part"),
    [
        ("a: [", 1, "no YAML"),
        ("seeds: 2\nseeds: 3\n", 2, "'seeds' is there twice, first in line 1"),
        ("seeds: 2\ntitle: !!python/object/apply:os.system ['touch ran']\n", 2, "makes objects"),
        ("seeds: 2\ntitle: !x y\n", 2, "makes objects"),
        ("a: &a [*a]\n", 1, "levels"),
        ("", 0, "a study has keys"),
        ("- 1\n", 1, "a study has keys"),
        ("fixed: {steps: 3}\n", 1, "nothing is varied"),
        ("steps: 3\nseeds: 1\n", 1, "it goes under fixed"),
        ("seeds: 0\n", 1, "how many, at least 1"),
        ("seeds: 10000000000\n", 1, "more than"),
        ("seeds: [0, 0]\n", 1, "there twice"),
        ("methods: n-distill\n", 1, "must be a list"),
        ("seeds: [1]\nfixed: {seed: 2}\n", 1, "seed is under fixed, too"),
        ("seeds: 2\nleave_out: [{seed: 0}, {seed: 1}]\n", 0, "the product is empty"),
        ("seeds: 2\nleave_out: [{seed: 7}]\n", 2, "this does nothing"),
        ("methods: [{method: n-distill, steps: 8}]\nenvironments: [{env: CartPole-v1, steps: 9}]\n", 1, "said twice of a run"),
        ("engines: [ppo, dqn]\n", 1, "Unknown engine 'dqn' of n-distill"),
        ("methods: [n-distill, {method: n_distill, form: unbiased}]\n", 1, "is the same run as"),
        ("seeds: 2\nchanges:\n - {where: {seed: 1}, seed: 7}\n", 3, "a seed is not changed"),
        ("seeds: [0, {seed: 1, steps: 8}]\n", 1, "seeds: each is a number"),
        ("seeds: 2\nmethods: [{method: n-distill, seed: 3}]\n", 2, "goes under seeds"),
        ("methods: [n-distill]\nchanges:\n - {where: {seed: 0}, method: teacher-distill}\n", 3, "method is an axis, methods"),
        ("engines: [{engine: a2c, name: A}]\nchanges:\n - {where: {seed: 0}, engine: ppo}\n", 3, "would go on to say 'A'"),
        ("students: [[8], [9]]\nchanges:\n - {where: {net_arch: [8]}, net_arch: [7]}\n", 3, "Give the students names"),
        ("methods: [{method: n-distill, steps: 8}, {method: n-distill, steps: 9}]\nchanges:\n - {where: {steps: 8}, steps: 7}\n", 3,
         "would go on to say 'method n-distill, steps 8'"),
        ("methods: [{method: n-distill, engine: a2c}]\nengines: [ppo]\n", 2, "Leave it out of one of them"),
        ("seeds: 2\nfixed: {seed: 4294967296}\n", 2, "at least 0 and at most 4,294,967,295"),
        ("seeds: 2\nfixed: {n_envs: 1000000000}\n", 2, "at most 100,000"),
        ("seeds: 2\nmethods: [{method: n-distill, name: ''}]\n", 2, "name must be text"),
        ("seeds: 2\nmethods:\n - &a {method: n-distill}\n - {<<: *a, steps: 8}\n", 4, "merge keys"),
        ("seeds: 2\nfixed: {steps: 010}\n", 2, "010 is a number of another base"),
        ("seeds: 2\nfixed: {steps: 1:30}\n", 2, "without leading zeros and colons"),
        ("methods: [n-distill, {steps: 8, name: n-distill},\n  {steps: 9, name: method n-distill}]\n", 2,
         "would call two entries 'method n-distill'"),
        ("seeds: 2\nfixed: {env_kwargs: {a: 2020-01-01}}\n", 2, "env_kwargs must be"),
    ],
)  # fmt: skip
def test_a_fault_of_the_whole(tmp_path, text, line, part, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = faults(tmp_path, text)
    assert [one for one in found if one[0] == line and part in one[1]], found
    assert not (tmp_path / "ran").exists()


def test_the_product_its_changes_and_what_is_left_out(tmp_path):
    path = tmp_path / "study.yml"
    path.write_text(
        """
environments: [CartPole-v1]
methods: [n-distill, {method: n-distill, form: paper, name: paper's}, teacher-v-reward]
engines: [ppo, trpo]
students: [[32, 32], 16, []]
seeds: [3, 5]
fixed: {steps: 16k, learning_rate: 1e-3}
changes:
  - {where: {method: teacher-v-reward}, steps: 1e5}
  - {where: {seed: 5, net_arch: [16]}, steps: 7}
leave_out:
  - {engine: trpo, method: n-distill}
"""
    )
    study = Study(path, tmp_path / "out")
    assert len(study.runs) == len({run.name for run in study.runs}) == (2 + 2) * 3 * 2
    by = {
        tuple(run.labels[axis] for axis in ("methods", "engines", "students", "seeds")): run.settings
        for run in study.runs
    }
    assert by["paper's", "ppo", "linear", "3"] == {
        **{"env": "CartPole-v1", "method": "n_distill", "form": "paper", "engine": "ppo", "net_arch": [], "seed": 3},
        **{"steps": 16_000, "learning_rate": 0.001},
    }
    assert by["teacher-v-reward", "trpo", "32-32", "3"]["steps"] == 100_000
    assert by["teacher-v-reward", "trpo", "16", "5"]["steps"] == by["n-distill", "ppo", "16", "5"]["steps"] == 7


def test_what_does_not_go_together_is_found_before_anything_runs(tmp_path):
    path = tmp_path / "study.yml"
    path.write_text(
        "methods: [teacher-v-reward,\n  on-policy-distill]\nengines: [ppo,\n  trpo]\nseeds: 3\nfixed: {gamma: 2, epsilon: 3}\n"
    )
    study = Study(path, tmp_path / "out")
    with pytest.raises(StudyError) as caught:
        study.run()
    texts = [(fault.line, fault.text) for fault in caught.value.faults]
    assert any(
        line == 2 and "(with line 4)" in text and "takes no step along a loss" in text for line, text in texts
    ), texts
    for name in ("gamma", "epsilon"):  # the first fault of a run does not hide the others
        assert any(line == 6 and name in text and "and 3 more" in text for line, text in texts), texts
    assert not (tmp_path / "out").exists()


def test_a_run_is_named_by_what_its_result_depends_on(tmp_path, monkeypatch):
    from sb3_distill.study import names

    def named(**fixed):
        return Study({"seeds": 1, "fixed": fixed}, tmp_path).runs[0].name

    name = named()
    assert name == named(env="CartPole-v1", method="n-distill", steps=16_384, threads=2, tensorboard_log="logs")
    assert name.startswith("n-distill-ppo-CartPole-v1-32-32-s0-")
    others = {named(steps=8), named(temperature=0.5), named(env_kwargs={"render_mode": None}), named(eval_episodes=3)}
    monkeypatch.setattr(names, "versions", lambda: {"torch": "0"})
    others.add(named())
    assert len(others) == 5 and name not in others


def test_numbers_are_typed_as_on_the_command_line():
    """In every setting that is one; and what is no number there is none here."""
    fixed = {"then_rl": "50k", "noise": "1e-1", "env_reward_coef": "1", "steps": "1,000", "eval_episodes": "2_0"}
    (run,) = Study({"seeds": 1, "fixed": fixed}, "out").runs
    assert (
        run.settings | {"then_rl": 50_000, "noise": 0.1, "env_reward_coef": 1.0, "steps": 1_000, "eval_episodes": 20}
        == run.settings
    )
    with pytest.raises(StudyError, match="1,5k"):
        Study({"seeds": 1, "fixed": {"steps": "1,5k"}}, "out")


def test_what_was_missing_may_be_there_now(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    description = {"teachers": ["mine.zip"], "environments": ["CartPole-v1"], "seeds": 1}
    with pytest.raises(StudyError, match=r"mine\.zip"):
        Study(description, "out")
    DQN("MlpPolicy", "CartPole-v1", buffer_size=1, device="cpu").save("mine.zip")
    assert len(Study(description, "out").runs) == 1


def test_changes_of_what_tables_do_not_say_are_none_of_an_axis():
    """Of named students, of one student, of a teacher that comes with its environment, and to what it was."""
    for data in (
        {"students": [{"net_arch": [8], "name": "a"}, [9]], "changes": [{"where": {"net_arch": [8]}, "net_arch": [7]}]},
        {"students": [[8]], "changes": [{"where": {"seed": 0}, "net_arch": [7]}]},
        {"methods": ["n-distill"], "changes": [{"where": {"seed": 0}, "method": "n-distill", "steps": 9}]},
    ):
        assert len(Study(data, "out").runs) in (1, 2)


def test_labels_are_as_they_were_typed(tmp_path, monkeypatch):
    """Two teachers whose names differ by - and _ are two."""
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate(("a_b.zip", "a-b.zip")):
        DQN("MlpPolicy", "CartPole-v1", buffer_size=1, device="cpu", seed=seed).save(name)
    study = Study({"teachers": ["a_b.zip", "a-b.zip"], "environments": ["CartPole-v1"]}, "out")
    assert [run.labels["teachers"] for run in study.runs] == ["a_b.zip", "a-b.zip"]
    assert len({place for place in places(study.runs).values()}) == 2


def test_a_teacher_without_values_is_refused_where_they_are_needed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pushes_in_study.py").write_text("def push(observation):\n    return 1\n")
    study = Study(
        {
            "teachers": ["pushes_in_study:push"],
            "environments": ["CartPole-v1"],
            "methods": ["n-distill", "teacher-v-reward"],
        },
        "out",
    )
    with pytest.raises(StudyError, match="needs the teacher's value function, and") as caught:
        study.check(study.runs)
    assert len(caught.value.faults) == 1


@pytest.mark.parametrize(
    "text",
    [
        "environments: [CartPole-v1, CartPole-v1]\n",
        "seeds: [3, 3]\n",
        "seeds: 1\nfixed: {method: policy-distillation, memory: /nowhere}\n",
    ],
)
def test_one_fault_is_told_once(tmp_path, text):
    assert len(faults(tmp_path, text)) == 1


def test_what_runs_have_by_default_is_found_by_where():
    changes = [{"where": {"form": "unbiased", "baseline": "teacher"}, "steps": 8}]
    data = {"methods": ["n-distill", {"method": "n-distill", "form": "paper"}], "changes": changes}
    assert [run.about["settings"]["steps"] for run in Study(data, "out").runs] == [8, 16_384]
    with pytest.raises(StudyError, match="no run has form: unbiased"):
        Study({**data, "methods": ["policy-distillation"]}, "out")


def test_tuples_and_ranges_of_python_are_lists():
    data = {
        "methods": ("n-distill",),
        "students": ((8, 8), (4,)),
        "seeds": range(3),
        "changes": ({"where": {"seed": 0}, "steps": 8},),
    }
    assert len(Study(data, "out").runs) == 6
