"""The tabular laboratory of *Distilling Policy Distillation* (Czarnecki et al. 2019).

``exact``
    Visits, values, expected updates, their Jacobians and losses, by linear solves.
``oscillation``
    The orbits of figure 2, integrated exactly.
``theorems``
    The command that checks both: ``python -m sb3_distill.tabular.theorems``.
"""
