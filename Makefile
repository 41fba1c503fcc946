# Every target does the set-up that it needs: a fresh clone needs Python 3.11 or 3.12, a C++ compiler, and pip.
PYTHON ?= python3
# The ROS release whose wheels are installed, kilted or jazzy; each has an environment of its own.
ROS ?= kilted
VENV := .venv$(if $(filter-out kilted,$(ROS)),-$(ROS))
RUN := $(VENV)/bin/python
# What takes long says every 5 s what it is doing.
ALIVE := tools/alive.py
PIP := $(RUN) $(ALIVE) pip install
# Every file that is installed has a digest in requirements/*.lock. What comes as source is built with what is there.
LOCKED := --require-hashes --no-build-isolation
# Logs of ROS go into the project's folder, so that no writable home is needed.
export ROS_LOG_DIR ?= $(CURDIR)/.ros_log
export AMENT_PREFIX_PATH := $(CURDIR)/$(VENV)

.PHONY: setup help test ros-test core-test lint format demo bench int8-bench load-bench parity closed-loop soak gpu-test lock clean
setup: $(VENV)/.ready ## set up .venv (the other targets do it by themselves)
help: ## list these targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))
# The longest files run first (test/conftest.py); xdist's own order starts files of one test last.
test: lint ## lint, then all tests (PYTEST_ARGS="-k words" for some; ROS=jazzy for that release)
	$(RUN) -m pytest -n 3 --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)
ros-test: $(VENV)/.ready-test ## the tests of the node over DDS (ROS=jazzy for that release)
	$(RUN) -m pytest -n 3 --dist loadfile --no-loadscope-reorder test/ros test/interop $(PYTEST_ARGS)
core-test: $(VENV)/.ready-test ## the tests that need no ROS, with ROS hidden
	$(RUN) -m pytest -n 3 --dist loadfile -p test.without_ros $(PYTEST_ARGS)
lint: $(VENV)/.ready-test ## ruff and mypy: findings, format and types
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy
format: $(VENV)/.ready-test ## let ruff mend what it can, and format
	$(RUN) -m ruff check --fix .
	$(RUN) -m ruff format .
demo: $(VENV)/.ready ## the node on a recorded task, with a report in demo_output/
	$(VENV)/bin/vit-perception demo
bench: $(VENV)/.ready-test ## the node against the bare engine and a naive node, on this CPU
	$(RUN) benchmarks/cpu_bench.py
load-bench: $(VENV)/.ready-test ## time and memory to load a ViT-L, here and in transformers
	$(RUN) benchmarks/load_bench.py
int8-bench: $(VENV)/.ready-test ## int8 against bfloat16 and float32, on this CPU
	$(RUN) benchmarks/int8_bench.py
parity: .venv-parity/.ready ## every family of checkpoints against its own code (2 GB more)
	.venv-parity/bin/python -m tools.checkpoint_parity
# What is done is kept in closed_loop_output/; the same command resumes.
closed-loop: $(VENV)/.ready .venv-sim/.ready ## a simulated arm does its task with the node's tokens (SEEDS=20 DEMOS=60; hours)
	$(RUN) -m tools.closed_loop $(if $(SEEDS),--seeds $(SEEDS)) $(if $(DEMOS),--demos $(DEMOS)) $(LOOP_ARGS)
# SOAK_S: below about 280 s some faults are left out, and named.
SOAK_S ?= 600
soak: $(VENV)/.ready-test ## a robot's day with faults, in SOAK_S seconds (600)
	$(RUN) -m tools.soak --seconds $(SOAK_S) $(SOAK_ARGS)
# Without ROS, with the packages of $(PYTHON) as they are; docs/engines.md names them.
PART ?= tests faults bench
gpu-test: ## the engines on this GPU: PART="tests faults bench", or some of them
	+@$(PYTHON) -m tools.gpu_test --plan $(PART)
	$(PYTHON) -m tools.gpu_test $(PART) $(GPU_TEST_ARGS)
# For Linux on x86-64: the newest version of every package that requirements/*.txt do not pin.
lock: ## resolve requirements/*.txt into requirements/*.lock
	$(PYTHON) $(ALIVE) "making .venv-lock" $(PYTHON) -m venv .venv-lock
	.venv-lock/bin/python $(ALIVE) pip install --require-hashes -r requirements/lock.txt
	.venv-lock/bin/python tools/lock.py
clean: ## remove environments, logs and outputs
	rm -rf .venv .venv-jazzy .venv-parity .venv-sim .venv-lock .mypy_cache .ruff_cache .ros_log demo_output closed_loop_output build install log *.egg-info

$(VENV)/.ready: $(addprefix requirements/,build.lock runtime.lock ros-$(ROS).lock torch-cpu.lock torch.lock torch-cuda.lock) setup.py setup.cfg package.xml tools/build_vision_msgs.py tools/link_share.py $(wildcard tools/vision_msgs/msg/*)
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; v in ((3, 11), (3, 12)) or sys.exit(f"Python {v[0]}.{v[1]}: the ROS 2 wheels are for 3.11 and 3.12; say make PYTHON=python3.12")'
	@echo "Setting up $(VENV): torch, ROS 2 wheels, OpenVINO (about 2 GB, a few minutes) ..."
	test -x $(RUN) || $(PYTHON) $(ALIVE) "making $(VENV)" $(PYTHON) -m venv $(VENV)
	$(PIP) $(LOCKED) -r requirements/build.lock
	$(PIP) $(LOCKED) -r requirements/runtime.lock -r requirements/ros-$(ROS).lock
# torch's build for the CPU where pip has been told of a place that has it; PyPI has the one for CUDA, and its libraries.
	$(PIP) $(LOCKED) --no-deps -r requirements/torch-cpu.lock 2> $(VENV)/torch-cpu.log || \
		$(PIP) $(LOCKED) --no-deps -r requirements/torch.lock -r requirements/torch-cuda.lock
	$(RUN) $(ALIVE) "compiling vision_msgs" $(RUN) tools/build_vision_msgs.py
	$(PIP) --no-deps --no-build-isolation --editable .
	$(RUN) tools/link_share.py
	@touch $@

BINDINGS := $(wildcard requirements/tensorrt_bindings/*.txt)
$(VENV)/.ready-test: $(VENV)/.ready requirements/fleet.lock requirements/test.lock requirements/python310.lock tools/python310.py $(BINDINGS)
	$(PIP) $(LOCKED) -r requirements/fleet.lock -r requirements/test.lock
	for file in $(BINDINGS); do $(PIP) --no-deps --require-hashes --upgrade \
		--target $(VENV)/tensorrt_bindings/$$(basename $$file .txt) -r $$file || exit 1; done
	$(RUN) $(ALIVE) "making $(VENV)/python310" $(RUN) tools/python310.py $(VENV)/python310
	@touch $@

# robosuite needs NumPy 1. It draws with EGL: apt install libegl1 libgl1 libgl1-mesa-dri.
.venv-sim/.ready: requirements/sim.lock requirements/build.lock
	test -x .venv-sim/bin/python || $(PYTHON) $(ALIVE) "making .venv-sim" $(PYTHON) -m venv .venv-sim
	.venv-sim/bin/python $(ALIVE) pip install $(LOCKED) -r requirements/build.lock
	.venv-sim/bin/python $(ALIVE) pip install $(LOCKED) -r requirements/sim.lock
	.venv-sim/bin/python -m tools.closed_loop.simulator.check
	@touch $@

.venv-parity/.ready: $(VENV)/.ready-test requirements/parity.lock requirements/parity-frameworks.lock
	$(RUN) $(ALIVE) "making .venv-parity" $(RUN) -m venv .venv-parity
	$(RUN) -c 'import site; print(site.getsitepackages()[0])' > "$$(.venv-parity/bin/python -c 'import site; print(site.getsitepackages()[0])')/project.pth"
	.venv-parity/bin/python $(ALIVE) pip install $(LOCKED) -r requirements/parity-frameworks.lock
	.venv-parity/bin/python $(ALIVE) pip install $(LOCKED) --no-deps -r requirements/parity.lock
	@touch $@
