"""Stand-in for the part of ROS 2's `launch_ros` that is used here, see launch/__init__.py."""
