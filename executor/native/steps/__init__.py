"""How each step kind of planner/steps/ is carried out; one file per kind, named alike."""
