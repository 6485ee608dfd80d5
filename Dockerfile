# The node on a system ROS 2:
#   docker build -t imn_world_model .
#   docker run --rm --net=host imn_world_model image_topics:=/front/image_raw
FROM ros:jazzy

SHELL ["/bin/bash", "-o", "pipefail", "-c"]
WORKDIR /ws

# What rosdep knows. Only the manifests first: the layer stays while code changes.
COPY package.xml src/imn_world_model/package.xml
COPY ros2_ws/src/imn_msgs/package.xml src/imn_world_model/ros2_ws/src/imn_msgs/package.xml
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends python3-pip python3-venv \
    && rosdep update --rosdistro "$ROS_DISTRO" \
    && rosdep install --from-paths src --ignore-src -y \
    && rm -rf /var/lib/apt/lists/*

# What only pip has, as in the README, in an environment that colcon does not crawl. numpy stays
# below 2: this ROS 2's cv_bridge was compiled for 1.
COPY constraints.txt .
RUN python3 -m venv --system-site-packages .venv && touch .venv/COLCON_IGNORE \
    && grep -v '^numpy==' constraints.txt > pins.txt \
    && .venv/bin/pip install --no-cache-dir -c pins.txt \
        onnxruntime filterpy lz4 mcap 'numpy<2' 'protobuf>=4.22' rosbags zstandard

COPY . src/imn_world_model
RUN . "/opt/ros/$ROS_DISTRO/setup.bash" && . .venv/bin/activate && colcon build

# Models and engines that are made while it runs.
ENV IMN_CACHE_DIR=/tmp/imn
ENTRYPOINT ["/bin/bash", "-c", ". install/setup.bash && exec ros2 launch imn_world_model perception.launch.py \"$@\"", "perception"]
