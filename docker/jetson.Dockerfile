# The node with ROS 2 Humble on a Jetson Orin (JetPack 6): on the Jetson,
# `docker build -f docker/jetson.Dockerfile -t vit_perception:jetson .`
#
# NOT BUILT by the authors: there was no Jetson, and NVIDIA's and ROS's registries were out of reach. The pip line's packages are
# those of docs/jetson.md, which a test compares; every rosdep key was resolved for Ubuntu 22.04. Please report what happens.

# Stage 1, ros: NVIDIA's image of JetPack with CUDA 12.6, TensorRT 10.3 and Ubuntu 22.04, and ROS's apt repository. The tag has to
# be that of your JetPack (6.1: r36.4.0).
ARG BASE=nvcr.io/nvidia/l4t-jetpack:r36.4.0
FROM ${BASE} AS ros
ENV DEBIAN_FRONTEND=noninteractive LANG=C.UTF-8
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates curl \
    && curl -fsSL https://raw.githubusercontent.com/ros/rosdistro/master/ros.key -o /usr/share/keyrings/ros.gpg \
    && echo "deb [signed-by=/usr/share/keyrings/ros.gpg] http://packages.ros.org/ros2/ubuntu jammy main" > /etc/apt/sources.list.d/ros2.list \
    && apt-get update && apt-get install -y --no-install-recommends \
       python3-colcon-common-extensions python3-pip python3-rosdep ros-humble-ros-base \
    && rm -rf /var/lib/apt/lists/* && rosdep init

# Stage 2, packages: what package.xml names, TensorRT's Python module, and what rosdep does not have.
FROM ros AS packages
WORKDIR /ws
COPY package.xml src/vit_perception/package.xml
RUN apt-get update && rosdep update --rosdistro humble \
    && rosdep install --from-paths src --ignore-src -y --rosdistro humble \
    && apt-get install -y --no-install-recommends python3-libnvinfer \
    && rm -rf /var/lib/apt/lists/*
# torch with CUDA for this processor comes from its own index, before all else: PyPI's torch for aarch64 is another build.
RUN pip install --no-cache-dir torch==2.8.0 --index-url https://pypi.jetson-ai-lab.io/jp6/cu126
RUN pip install --no-cache-dir 'numpy<2' onnx onnxscript safetensors huggingface_hub rosbags==0.11.9 scikit-learn rich pillow matplotlib simplejpeg pyarrow
# torch 2.8 needs libcudss.so.0, which is not in JetPack (docs/jetson.md).
RUN pip install --no-cache-dir --no-deps 'nvidia-cudss-cu12<1' \
    && python3 -c "import nvidia.cu12 as n; print(list(n.__path__)[0] + '/lib')" > /etc/ld.so.conf.d/cudss.conf && ldconfig

# Stage 3, run: the package itself, built as in any workspace.
FROM packages AS run
COPY . src/vit_perception
RUN . /opt/ros/humble/setup.sh && colcon build --packages-select vit_perception \
    && useradd --create-home --uid 1000 --groups video robot
ENV FASTRTPS_DEFAULT_PROFILES_FILE=/ws/install/vit_perception/share/vit_perception/config/fastdds_large_data.xml
USER robot
WORKDIR /home/robot
RUN mkdir -p .cache/vit_perception
# Sources ROS and the workspace, then runs what is given.
ENTRYPOINT ["/bin/bash", "-c", "source /opt/ros/humble/setup.bash && source /ws/install/setup.bash && exec \"$@\"", "entrypoint"]
CMD ["vit-perception", "doctor", "--no-images", "--no-graph"]
