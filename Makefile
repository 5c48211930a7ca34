PACKAGE = sb3_distill envs zoo tests

.PHONY: format lint type test check

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

check: lint type test
