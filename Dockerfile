# ROS 2 Jazzy from apt with this package built by colcon. Not tested: no container engine was at hand.
# The commands are those of docs/installation.md (test/test_recipes.py compares them).
#
#   docker build -t heisd_ros .
#   docker run --rm --net=host --ipc=host heisd_ros ros2 launch heisd_ros real_arm.launch.py robot:=fr3
FROM ros:jazzy-ros-base
SHELL ["/bin/bash", "-e", "-c"]
# Another build of torch, for instance "torch --index-url URL" for the CPU; empty: pip's own choice.
ARG TORCH_SPEC=
WORKDIR /ws
RUN apt-get update && apt-get install -y --no-install-recommends python3-venv
COPY . src/heisd_ros
RUN rosdep update && rosdep install --from-paths src --ignore-src --rosdistro $ROS_DISTRO -y \
 && src/heisd_ros/scripts/system_packages python3
RUN python3 -m venv --system-site-packages venv && source venv/bin/activate \
 && if [[ -n $TORCH_SPEC ]]; then pip install $TORCH_SPEC; fi \
 && python3 src/heisd_ros/scripts/requirements.py --apt sim | pip install -c src/heisd_ros/constraints/noble.txt -r /dev/stdin
RUN source /opt/ros/$ROS_DISTRO/setup.bash && source venv/bin/activate \
 && colcon build --symlink-install
RUN sed -i '/^exec/i source /ws/install/setup.bash' /ros_entrypoint.sh
CMD ["ros2", "launch", "heisd_ros", "vla.launch.py"]
