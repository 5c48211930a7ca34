"""The name by which saved students know their networks for MinAtar."""

from sb3_distill.students.features import MinAtarCNN as MinAtarCNN
from sb3_distill.students.features import min_atar_student as min_atar_student
from sb3_distill.students.features import sized as sized
