"""Studies: many runs of ``sb3-distill distill``, planned by one file, run on one machine or many, told in tables."""
