"""Where the end effector is, how it moves, and how fine its motion is.

Modules: `pose` (a rigid pose), `arm` (forward kinematics and twist by Pinocchio), `robots` (the
Panda's description), `proprio` (the policy's proprioceptive input), `curvature` (circle fit),
`motion` (what the tip did over the last samples) and `metric` (the fused metric of it, scaled by
demonstrations).

Nothing is imported here, so that using one module never loads Pinocchio for another.
"""
