"""Draw one picture: whether this machine can run the simulator. The last step of its set-up."""

import sys

from tools.closed_loop.recipe import RECIPE

# A picture of nothing has one colour.
LEAST_DEVIATION = 10.0
HINT = "hint: apt install libegl1 libgl1 libgl1-mesa-dri, or set MUJOCO_GL=osmesa after libosmesa6"


def main() -> int:
    try:
        from tools.closed_loop.simulator.conditions import condition
        from tools.closed_loop.simulator.scene import Scene
        from tools.closed_loop.simulator.tasks import task

        images = Scene(task("lift"), condition("as demonstrated"), RECIPE.image_px).images()
    except Exception as error:  # whatever a library of drawing raises
        print(f"the simulator cannot draw: {error}\n{HINT}", file=sys.stderr)
        return 1
    for name, image in images.items():
        if image.std() < LEAST_DEVIATION:
            print(f"{name} is an empty picture\n{HINT}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
