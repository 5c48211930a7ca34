"""What a teacher is, and the families of them."""

from typing import TYPE_CHECKING

from sb3_distill.common.lazy_names import lazy_names

if TYPE_CHECKING:
    from sb3_distill.teachers.actor_critic import ActorCriticTeacher
    from sb3_distill.teachers.q_network import QTeacher
    from sb3_distill.teachers.teacher import Answer, Teacher

__all__ = ["ActorCriticTeacher", "Answer", "QTeacher", "Teacher"]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "ActorCriticTeacher": "sb3_distill.teachers.actor_critic",
        "QTeacher": "sb3_distill.teachers.q_network",
        "Answer": "sb3_distill.teachers.teacher",
        "Teacher": "sb3_distill.teachers.teacher",
    },
)
