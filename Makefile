PACKAGE = sb3_distill envs zoo tests docs

.PHONY: format lint type test doc check

format:
	ruff check --fix $(PACKAGE)
	ruff format $(PACKAGE)

lint:
	ruff check $(PACKAGE)
	ruff format --check $(PACKAGE)

type:
	.ci/typecheck

test:
	python -m pytest -n auto

doc:
	python -m sphinx -W --keep-going -b html docs docs/_build/html

check: lint type test doc
