"""What becomes of students whose environments are on a node that is lost: ``python -m tests.tools.node_loss``.

Two Ray nodes on this machine hold two actors of two CartPoles each. While a student learns, one of them is removed; the student has to
make all of its steps, and what was lost has to be told. The nodes are in a network namespace of their own, with the loopback alone.
"""

import os
import sys
import time
import warnings
from typing import Any

from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env

from sb3_distill import OnPolicyDistill
from sb3_distill.envs import RayVecEnv
from tests.tools.loopback import begin_inside

STEPS, REMOVED_AFTER = 2_048, 400


class Removal(BaseCallback):
    """
    Removes a node once.

    :param cluster: of it
    :param node: which
    """

    def __init__(self, cluster, node):
        super().__init__()
        self.cluster, self.node, self.at = cluster, node, 0.0

    def _on_step(self):
        if not self.at and self.num_timesteps >= REMOVED_AFTER:
            self.cluster.remove_node(self.node, allow_graceful=False)
            self.at = time.monotonic()
        return True


def main() -> int:
    """:return: exit code"""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    removal = Removal(cluster, cluster.add_node(num_cpus=1))
    kwargs = {"envs_per_actor": 2, "address": cluster.address}
    ray_envs: Any = RayVecEnv
    env = make_vec_env("CartPole-v1", 4, seed=0, vec_env_cls=ray_envs, vec_env_kwargs=kwargs)
    student = OnPolicyDistill("MlpPolicy", env, teacher="zoo:dqn/CartPole-v1", n_steps=64, seed=0)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        student.learn(STEPS, callback=removal)
    seconds = time.monotonic() - removal.at
    lost = [str(warning.message) for warning in told if "was lost" in str(warning.message)]
    env.close()
    print(f"{student.num_timesteps:,} steps, the last of them {seconds:.0f} s after a node was removed; told:")
    print("\n".join(lost))
    return 0 if lost and student.num_timesteps == STEPS else 1


if __name__ == "__main__":
    begin_inside("tests.tools.node_loss", [])
    sys.exit(main())
