"""What simulator, node and policies say to each other: topics, and numbers of the loop.

An observation is two images, the hand's pose and the gripper's opening, all with one stamp of
simulated time. Its answer is a chunk: ``STEPS`` target poses and gripper commands, one for each
control step from that stamp on, with the stamp of the observation.
"""

TASKS = ("lift", "can", "named")
# The objects of the task "named". Which of them is meant is said on GOAL_TOPIC, a
# sensor_msgs/JointState with one number for each: 1 for the named one, 0 for the others. So node,
# embed and policies treat the name like any other state of the robot.
OBJECTS = ("milk", "bread", "cereal", "can")
GOAL_TOPIC = "/goal"
# What is changed in the scene of the demonstrations (simulator/conditions.py).
CONDITIONS = (
    "as demonstrated",
    "dim",
    "dark",
    "side light",
    "table blue",
    "table black",
    "table tiled",
    "distractors",
    "distractors, own colour",
    "camera moved",
    "object green",
    "object blue",
)

CAMERAS = {"agentview": "agentview", "wrist": "robot0_eye_in_hand"}  # name: camera of robosuite
POSE_TOPIC = "/ee_pose"  # geometry_msgs/PoseStamped, of the point between the fingers
JOINTS_TOPIC = "/joint_states"  # sensor_msgs/JointState
GRIPPER_JOINT = "gripper"  # its position is the distance between the fingers in m
TARGETS_TOPIC = "/arm/target_poses"  # geometry_msgs/PoseArray, STEPS poses
GRIPPER_TOPIC = "/gripper/commands"  # trajectory_msgs/JointTrajectory, STEPS points
FRAME_ID = "world"
# What goes wrong in the loop, beside what is changed in the scene.
TROUBLES = (
    "none",
    "wrist silent",  # that camera sends nothing
    "pose late",  # the newest pose is 100 ms old, with its own stamp
    "half as often",  # an observation every 4 control steps
    "frames dropped",  # each observation loses both images with probability DROPPED
)
DROPPED = 0.3

CONTROL_PERIOD_NS = 100_000_000
# Control steps from one observation to the next in the loop: the first two of a chunk are carried
# out.
OBSERVE_EVERY = 2
STEPS = 8
# Commands of the gripper, as robosuite has them.
OPEN, CLOSED = -1.0, 1.0


def has_goal(task: str) -> bool:
    """Return whether a task has a named object."""
    return task == "named"


def image_topic(camera: str) -> str:
    """Return the topic of a camera's sensor_msgs/Image."""
    return f"/{camera}/image_raw"


def stamp_parts(stamp_ns: int) -> dict[str, int]:
    """Return the fields of builtin_interfaces/Time."""
    seconds, nanoseconds = divmod(stamp_ns, 1_000_000_000)
    return {"sec": seconds, "nanosec": nanoseconds}


def stamp_of(header) -> int:
    """Return a header's stamp in ns."""
    return header.stamp.sec * 1_000_000_000 + header.stamp.nanosec
