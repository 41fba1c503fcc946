# Every target does the set-up that it needs: a fresh clone needs Python 3.11 or 3.12, a C++ compiler, and pip.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
PIP_OPTIONS := --disable-pip-version-check install --quiet
PIP := $(RUN) -m pip $(PIP_OPTIONS)
# Every file that is installed has a digest in requirements/*.lock. What comes as source is built with what is there.
LOCKED := --require-hashes --no-build-isolation
# Logs of ROS go beside the project, so that nothing needs a writable home.
export ROS_LOG_DIR ?= $(CURDIR)/.ros_log
export AMENT_PREFIX_PATH := $(CURDIR)/$(VENV)

.PHONY: setup test demo bench int8-bench load-bench parity soak gpu-test lock clean
setup: $(VENV)/.ready
test: $(VENV)/.ready-test
	$(RUN) -m pytest -n 3 --dist loadfile $(PYTEST_ARGS)
demo: $(VENV)/.ready
	$(VENV)/bin/vit-perception demo
load-bench: $(VENV)/.ready-test
	$(RUN) benchmarks/load_bench.py
bench: $(VENV)/.ready-test
	$(RUN) benchmarks/cpu_bench.py
int8-bench: $(VENV)/.ready-test
	$(RUN) benchmarks/int8_bench.py
# Every family's checkpoints against the family's own code: about 2 GB more, in an environment that sees $(VENV)'s packages.
parity: .venv-parity/.ready
	.venv-parity/bin/python -m tools.checkpoint_parity
# How long the robot's day is, in seconds: less than about 280 leave faults out, and say which.
SOAK_S ?= 600
soak: $(VENV)/.ready-test
	$(RUN) -m tools.soak --seconds $(SOAK_S) $(SOAK_ARGS)
# With $(PYTHON) as it is, and without ROS; docs/engines.md names the packages. PART is tests, faults or bench, or several.
PART ?= tests faults bench
gpu-test:
	+@$(PYTHON) -m tools.gpu_test --plan $(PART)
	$(PYTHON) -m tools.gpu_test $(PART) $(GPU_TEST_ARGS)
# Resolve requirements/*.txt anew, for Linux on x86-64: the newest of every package that these do not pin.
lock:
	$(PYTHON) -m venv .venv-lock
	.venv-lock/bin/python -m pip $(PIP_OPTIONS) --require-hashes -r requirements/lock.txt
	.venv-lock/bin/python tools/lock.py
clean:
	rm -rf $(VENV) .venv-parity .venv-lock .ros_log demo_output build install log *.egg-info

$(VENV)/.ready: $(addprefix requirements/,build.lock runtime.lock torch-cpu.lock torch.lock torch-cuda.lock) setup.py setup.cfg package.xml tools/build_vision_msgs.py tools/link_share.py $(wildcard tools/vision_msgs/msg/*)
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; v in ((3, 11), (3, 12)) or sys.exit(f"Python {v[0]}.{v[1]}: the ROS 2 wheels are for 3.11 and 3.12; say make PYTHON=python3.12")'
	@echo "Setting up $(VENV): torch, ROS 2 wheels, OpenVINO (about 2 GB, a few minutes) ..."
	test -x $(RUN) || $(PYTHON) -m venv $(VENV)
	$(PIP) $(LOCKED) -r requirements/build.lock
	$(PIP) $(LOCKED) -r requirements/runtime.lock
# torch's build for the CPU where pip has been told of a place that has it; PyPI has the one for CUDA, and its libraries.
	$(PIP) $(LOCKED) --no-deps -r requirements/torch-cpu.lock 2> $(VENV)/torch-cpu.log || \
		$(PIP) $(LOCKED) --no-deps -r requirements/torch.lock -r requirements/torch-cuda.lock
	$(RUN) tools/build_vision_msgs.py
	$(PIP) --no-deps --no-build-isolation --editable .
	$(RUN) tools/link_share.py
	@touch $@

BINDINGS := $(wildcard requirements/tensorrt_bindings/*.txt)
$(VENV)/.ready-test: $(VENV)/.ready requirements/test.lock requirements/python310.lock tools/python310.py $(BINDINGS)
	$(PIP) $(LOCKED) -r requirements/test.lock
	for file in $(BINDINGS); do $(PIP) --no-deps --require-hashes --upgrade \
		--target $(VENV)/tensorrt_bindings/$$(basename $$file .txt) -r $$file || exit 1; done
	$(RUN) tools/python310.py $(VENV)/python310
	@touch $@

.venv-parity/.ready: $(VENV)/.ready-test requirements/parity.lock requirements/parity-frameworks.lock
	$(RUN) -m venv .venv-parity
	$(RUN) -c 'import site; print(site.getsitepackages()[0])' > "$$(.venv-parity/bin/python -c 'import site; print(site.getsitepackages()[0])')/project.pth"
	.venv-parity/bin/python -m pip $(PIP_OPTIONS) $(LOCKED) -r requirements/parity-frameworks.lock
	.venv-parity/bin/python -m pip $(PIP_OPTIONS) $(LOCKED) --no-deps -r requirements/parity.lock
	@touch $@
