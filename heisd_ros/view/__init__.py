"""What a person sees of the robot in a browser: live, of a recording, of an evaluation."""
