"""The name by which saved students know their networks for Atari."""

from sb3_distill.students.nature_cnn import SmallNatureCNN as SmallNatureCNN
from sb3_distill.students.nature_cnn import student_arch as student_arch
