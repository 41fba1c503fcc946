# The node with ROS 2 Jazzy on a CPU (x86-64): `docker build -f docker/cpu.Dockerfile -t vit_perception:cpu .`
#
# ROS 2, torch and all else are the Python wheels of requirements/*.lock, each checked against its digest. So this image needs
# no ROS repository, and holds what `make test ROS=jazzy` tests. It has no `ros2` command, no launch, no TF and no cv_bridge;
# docker/cuda.Dockerfile has them. docs/docker.md says what was built and run.

# BASE may be any Debian or Ubuntu whose python3 is 3.11 or 3.12.
ARG BASE=debian:bookworm-slim

# Stage 1, build: compilers, headers and pip. None of them reaches the image that runs.
FROM ${BASE} AS build
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates g++ make python3-dev python3-venv \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /opt/vit_perception
# Only what the set-up reads, so that a change of the code does not install all packages again.
COPY Makefile package.xml setup.py setup.cfg pyproject.toml ./
COPY requirements requirements
COPY tools tools
COPY resource resource
COPY vit_perception/__init__.py vit_perception/__init__.py
# torch's build for CPUs is at its makers' index: PyPI has the build for CUDA alone, which is 4 GB larger.
ARG PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu
RUN PIP_NO_CACHE_DIR=1 make setup ROS=jazzy

# Stage 2, run: Python, the environment and the package.
FROM ${BASE} AS run
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates python3 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 1000 robot
COPY --from=build /opt/vit_perception /opt/vit_perception
WORKDIR /opt/vit_perception
COPY config config
COPY launch launch
COPY data data
COPY examples examples
COPY vit_perception vit_perception
# What make sets for each of its commands.
ENV PATH=/opt/vit_perception/.venv-jazzy/bin:$PATH \
    AMENT_PREFIX_PATH=/opt/vit_perception/.venv-jazzy \
    FASTRTPS_DEFAULT_PROFILES_FILE=/opt/vit_perception/config/fastdds_large_data.xml
# Not root: the node needs no rights, and its caches belong to this user. Mount a volume at ~/.cache to keep compiled engines.
USER robot
WORKDIR /home/robot
RUN mkdir -p .cache/vit_perception
# `docker run IMAGE encoder_node --ros-args --params-file …` runs the node; without a command it says what it can run.
CMD ["vit-perception", "doctor", "--no-images", "--no-graph"]
