"""How far past its training range does a model get, and which stage takes it there?

Command: gsm-lab sweep edge_of_competence && gsm-lab report edge_of_competence
Cost at nano: see README.md, which also holds the prediction made before the run and what was found.
"""

from gsm_lab.study import edge_of_competence

EXPERIMENT = edge_of_competence("nano", seeds=(0, 1, 2))
