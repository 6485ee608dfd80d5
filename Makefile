# make demo   a robot camera log, through the real ROS 2 node, to identities and matrices
# make test   lint, types, unit tests and system tests
# make docs   the site, in site/
# All first make what they need in .venv (tools/bootstrap.py); a second run skips that.

PYTHON ?= python3
VENV ?= .venv
ROS_DISTRO_WHEELS ?= jazzy

# A sourced ROS 2 would shadow the one in the virtual environment.
CLEAN_ENV = env -u PYTHONPATH -u PYTHONHOME -u LD_LIBRARY_PATH -u AMENT_PREFIX_PATH \
	-u _ROS_WHEELS_BOOTSTRAP_COMPLETE PATH="$(abspath $(VENV))/bin:$$PATH"
RUN = $(CLEAN_ENV) $(abspath $(VENV))/bin/python
BOOTSTRAP = $(PYTHON) tools/bootstrap.py --venv $(VENV) --ros $(ROS_DISTRO_WHEELS)

.PHONY: demo test lint docs bench setup clean

demo:
	@$(BOOTSTRAP) demo
	@$(RUN) -m imn_world_model.demo

setup:
	@$(BOOTSTRAP) dev

lint: setup
	$(RUN) -m ruff check .
	$(RUN) -m mypy
	$(CLEAN_ENV) lint-imports --no-cache

test: lint
	$(RUN) -m pytest

# Without --quiet, which keeps warnings from --strict.
docs: setup
	NO_MKDOCS_2_WARNING=1 $(RUN) -m mkdocs build --strict

bench: setup
	$(RUN) -m imn_world_model.bench

clean:
	rm -rf $(VENV) build dist log install *.egg-info ros2_ws/build ros2_ws/install ros2_ws/log
	rm -rf site .mypy_cache .pytest_cache .ruff_cache .hypothesis demo/output.png demo/output_bag
