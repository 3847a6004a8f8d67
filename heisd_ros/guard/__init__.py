"""What `heisd_guard` passes on and when it stops the arm. Imports neither ROS nor PyTorch."""
