"""ROS 2 nodes: thin shells around the parts of the package that know nothing of ROS."""
