"""The safety filter between policy and robot: what may be commanded, and smooth halts."""
