"""Where a LeRobot data set keeps what, and the columns that every one has: for reader and writer.

Paths and columns are those of version 3.0, as lerobot 0.4 writes it.
"""

INFO = "meta/info.json"
STATISTICS = "meta/stats.json"
TASKS = "meta/tasks.parquet"
EPISODES = "meta/episodes/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
DATA = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEOS = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
WRITTEN_VERSION = "v3.0"
VERSIONS = ("v2.0", "v2.1", WRITTEN_VERSION)

# Columns of every data file.
TIMESTAMP = "timestamp"  # s in the episode
INDEX = "index"  # of the row among all
FRAME_INDEX = "frame_index"  # in the episode
EPISODE_INDEX = "episode_index"
TASK_INDEX = "task_index"

ENVIRONMENT_STATE = "observation.environment_state"
STATE = "observation.state"
ACTION = "action"
IMAGES = "observation.images."  # and the camera's name

FILES_IN_A_CHUNK = 1000
MOST_DATA_FILE_MB = 100
MOST_VIDEO_FILE_MB = 200
QUANTILES = (0.01, 0.1, 0.5, 0.9, 0.99)
