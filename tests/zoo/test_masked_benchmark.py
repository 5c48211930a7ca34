"""The table of masked students: its game, and that only what is missing is run."""

import numpy as np
from sb3_contrib import MaskablePPO

from sb3_distill.evaluation.episodes import Heeding, episode_returns, random_play
from sb3_distill.zoo.benchmarks import engines, masked


def test_the_game_allows_few_of_sixty_actions_and_skipping_little_pays():
    env = masked.Piles()
    obs, _ = env.reset(seed=0)
    paid = over = 0
    while not over:
        mask = env.action_masks()
        assert 1 <= mask.sum() <= masked.HAND and env.observation_space.contains(obs) and mask.size == 60
        obs, reward, over, _, _ = env.step(np.flatnonzero(mask)[0])
        paid += reward
    assert paid >= 5
    best = episode_returns(Heeding(masked.rule().act), masked.made, 50).mean()
    assert best > 1.5 * episode_returns(random_play(env.action_space, 50), masked.made, 50).mean()
    assert masked.Piles.n_forbidden == 0
    env.reset(seed=0)
    env.step(np.flatnonzero(~env.action_masks())[0])
    assert masked.Piles.n_forbidden == 1
    masked.Piles.n_forbidden = 0


def test_runs_are_kept_and_only_what_is_missing_is_run(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(masked, "EPISODES", 10)
    out = tmp_path / "masked.csv"
    chosen = [
        "--teachers",
        "rule",
        "--methods",
        "on_policy_distill",
        "--seeds",
        "0",
        "--steps",
        "512",
        "--out",
        str(out),
    ]
    masked.main(chosen)
    lines = out.read_text()
    assert [line.split(",")[1] for line in lines.splitlines()] == ["who", "teacher", "random play", "on_policy_distill"]
    assert all(line.split(",")[6] == "0" for line in lines.splitlines()[1:])  # forbidden
    masked.main(chosen)
    assert out.read_text() == lines
    assert "100.0%" in capsys.readouterr().out


def test_costs_are_of_the_same_episodes(capsys, monkeypatch):
    monkeypatch.setattr(engines, "SETTINGS", engines.SETTINGS | dict(n_steps=16, n_epochs=1))
    played = []
    learn = MaskablePPO.learn

    def noted(self, *args, **kwargs):
        learn(self, *args, **kwargs)
        played.append(self.rollout_buffer.actions.sum())
        return self

    monkeypatch.setattr(MaskablePPO, "learn", noted)
    engines.main(["--steps", "256", "--rounds", "1"])
    assert len(set(played[1:])) == 1 and len(played) == 4
    assert "maskable_ppo" in capsys.readouterr().out
