"""What the network sees of a bag's images: options of `fit`, as the camera settings of a node."""

from argparse import Namespace, _ArgumentGroup

from vit_perception.config.settings import BadSetting, CameraSettings
from vit_perception.files.errors import InvalidValue


def add_arguments(group: _ArgumentGroup) -> None:
    """Add them to ``group``."""
    group.add_argument(
        "--roi",
        type=int,
        nargs=4,
        metavar=("X", "Y", "W", "H"),
        help="region of interest of the bag's images, as cameras.<name>.roi of the node",
    )
    group.add_argument(
        "--rectify",
        action="store_true",
        help="undistort the bag's images with their CameraInfo, as cameras.<name>.rectify",
    )
    group.add_argument(
        "--camera-info-topic",
        default="",
        metavar="TOPIC",
        help="topic of the CameraInfo, if it is not camera_info beside the images",
    )


def check(args: Namespace) -> None:
    """Refuse what cannot be.

    Raises:
        InvalidValue: An option is not accepted.
    """
    if (args.roi or args.rectify) and (args.images or args.test_images):
        raise InvalidValue(
            "--roi and --rectify are given with pictures; accepted: bags alone, because pictures "
            "have no CameraInfo and can be cut before"
        )
    if args.camera_info_topic and not args.rectify:
        raise InvalidValue("--camera-info-topic is given without --rectify")
    camera_of(args)


def camera_of(args: Namespace) -> CameraSettings | None:
    """Return what the network sees of the bag's images; None if that is all of them.

    Raises:
        InvalidValue: --roi is no region.
    """
    if not args.roi and not args.rectify:
        return None
    try:
        return CameraSettings(
            "bag",
            args.topic,
            roi=tuple(args.roi or ()),
            rectify=args.rectify,
            camera_info_topic=args.camera_info_topic,
        )
    except BadSetting as error:
        raise InvalidValue(str(error).replace("parameter 'cameras.bag.roi'", "--roi")) from error
