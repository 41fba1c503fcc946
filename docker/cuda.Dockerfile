# The node with ROS 2 Jazzy from apt on a desktop GPU: `docker build -f docker/cuda.Dockerfile -t vit_perception:cuda .`
#
# NOT BUILT by the authors: the registries of ROS and of Docker were out of reach. The pip line's packages are those of the README,
# which a test compares; every rosdep key was resolved for Ubuntu 24.04. Please report what happens (docs/docker.md).

# Stage 1, ros: Ubuntu 24.04 with ROS, colcon and rosdep, as the ROS project publishes it. CUDA is not in it and need not be:
# torch's wheels bring CUDA's libraries, and the container toolkit passes the driver in.
FROM ros:jazzy-ros-base AS ros
ENV DEBIAN_FRONTEND=noninteractive NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility

# Stage 2, packages: what package.xml names, then what rosdep does not have. Both change rarely, so they come before the code.
FROM ros AS packages
WORKDIR /ws
COPY package.xml src/vit_perception/package.xml
RUN apt-get update && rosdep update --rosdistro jazzy \
    && rosdep install --from-paths src --ignore-src -y \
    && apt-get install -y --no-install-recommends python3-pip ros-jazzy-rmw-fastrtps-cpp \
    && rm -rf /var/lib/apt/lists/*
# --break-system-packages: the image is one environment, and `ros2 run` starts the system's Python.
RUN pip install --no-cache-dir --break-system-packages 'numpy<2' torch openvino onnx onnxscript safetensors huggingface_hub rosbags==0.11.9 scikit-learn rich pillow matplotlib simplejpeg pyarrow
# TensorRT-RTX, the engine for desktop cards of compute capability 7.5 to 12.1.
RUN pip install --no-cache-dir --break-system-packages --no-deps tensorrt-rtx-cu13-libs==1.7.1.116 tensorrt-rtx-cu13-bindings==1.7.1.116

# Stage 3, run: the package itself, built as in any workspace.
FROM packages AS run
COPY . src/vit_perception
RUN . /opt/ros/jazzy/setup.sh && colcon build --packages-select vit_perception \
    && useradd --create-home --uid 1001 robot
ENV FASTRTPS_DEFAULT_PROFILES_FILE=/ws/install/vit_perception/share/vit_perception/config/fastdds_large_data.xml
USER robot
WORKDIR /home/robot
RUN mkdir -p .cache/vit_perception
# Sources ROS and the workspace, then runs what is given.
ENTRYPOINT ["/bin/bash", "-c", "source /opt/ros/jazzy/setup.bash && source /ws/install/setup.bash && exec \"$@\"", "entrypoint"]
CMD ["vit-perception", "doctor", "--no-images", "--no-graph"]
