"""What runs on the robot without torch and without ROS: a model file answers pictures."""
