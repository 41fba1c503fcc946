"""The patch grid as a camera: the pixel that each patch is centred on, and the ray through it.

    view = PatchView.of_layout(layout, "wrist")            # of ~/layout, once an image has come
    rays = patch_rays(view, calibration_of(camera_info))   # sensor_msgs/CameraInfo
    rays.directions                                        # (P, 3), P patches row by row

It needs numpy, and OpenCV where the images have the lens's distortion.

Rays are in the camera's optical frame (REP 103: x right, y down, z forward), which is that of the
rectified image, as in image_geometry: an R of a stereo camera is applied. They begin at the
camera's optical centre.
"""

from dataclasses import dataclass

import numpy as np

from vit_perception.files.errors import InvalidValue
from vit_perception.image.camera_info import Calibration, check_size
from vit_perception.image.patch_geometry import PatchGeometry
from vit_perception.wire.layout import Layout
from vit_perception.wire.records import Roi, group_name

# A ray is one of the lens only if the lens's formula puts it back where the pixel is.
_MOST_ERROR_PX = 0.05
_NEWTON_STEPS = 20
# Of x / z and y / z of a ray: a focal length for that is a mistake.
_WIDEST = 1e6
# Half the distance for the slope of the lens's formula, in units of the focal length.
_STEP = 1e-6
_SOLVED = 1e-12  # a smaller step changes nothing


@dataclass(frozen=True)
class PatchView:
    """How the patches of one encoder lie in the images of one camera.

    Per axis ``network_px = source_px * scale + offset_px``, in pixel edges: the centre of pixel i
    is i + 0.5.
    """

    grid: tuple[int, int]  # (rows, columns)
    patch_size_px: int  # in the network's image
    scale: tuple[float, float]  # (y, x)
    offset_px: tuple[float, float]  # (y, x)
    source_size_px: tuple[int, int]  # (height, width) of the image
    region: Roi  # the part of the image that the network sees
    rectified: bool  # whether the image is the rectified one

    @classmethod
    def of_layout(cls, layout: Layout, camera: str, encoder: str = "") -> "PatchView":
        """Return the view of ``camera``; ``encoder`` is the name of one of several.

        Raises:
            InvalidValue: the layout has no such camera or encoder, or the camera has sent no image
                yet.
        """
        cameras = {each.name: each for each in layout.cameras}
        if camera not in cameras:
            raise InvalidValue(f"camera is {camera!r}; accepted: {', '.join(cameras)}")
        seen = cameras[camera]
        try:
            grid = layout.group(group_name(camera, "patch", encoder)).grid
        except KeyError as error:
            raise InvalidValue(str(error.args[0])) from error
        scale, offset_px = seen.scale, seen.offset_px
        patch_size_px = seen.patch_size_px
        if encoder:
            its_own = next(each for each in layout.encoders if each.name == encoder)
            views = {view.camera: view for view in its_own.views}
            patch_size_px = its_own.patch_size_px
            if camera in views:
                scale, offset_px = views[camera].scale, views[camera].offset_px
        if grid is None or scale is None or offset_px is None or seen.source_size_px is None:
            raise InvalidValue(
                f"the layout has no geometry of camera {camera!r}; accepted: a layout that came "
                "after the camera's first image"
            )
        height, width = seen.source_size_px
        return cls(
            grid=grid,
            patch_size_px=patch_size_px,
            scale=scale,
            offset_px=offset_px,
            source_size_px=seen.source_size_px,
            region=Roi(*seen.roi) if seen.roi else Roi(0, 0, width, height),
            rectified=seen.rectified,
        )

    @classmethod
    def of_geometry(
        cls, geometry: PatchGeometry, grid: tuple[int, int], rectified: bool
    ) -> "PatchView":
        """Return the view of ``geometry``, of whose patches an encoder gives ``grid``."""
        plan = geometry.plan
        return cls(
            grid=grid,
            patch_size_px=geometry.patch_size_px,
            scale=plan.scale,
            offset_px=plan.offset_px,
            source_size_px=plan.source_size_px,
            region=plan.region,
            rectified=rectified,
        )

    def edges_px(self) -> tuple[np.ndarray, np.ndarray]:
        """Return where rows and columns of patches begin and end in the image, in pixel edges.

        They are (rows + 1,) and (columns + 1,) float64.
        """
        rows, columns = (np.arange(count + 1) * float(self.patch_size_px) for count in self.grid)
        return (
            (rows - self.offset_px[0]) / self.scale[0],
            (columns - self.offset_px[1]) / self.scale[1],
        )

    @property
    def centres_px(self) -> np.ndarray:
        """The pixel that each patch is centred on, (P, 2) float64 (y, x), in pixel edges.

        NaN for a patch whose centre is in the padding: it saw no pixel there.
        """
        rows, columns = (0.5 * (edges[:-1] + edges[1:]) for edges in self.edges_px())
        centres = np.stack(np.meshgrid(rows, columns, indexing="ij"), axis=-1).reshape(-1, 2)
        region = self.region
        low = (region.y, region.x)
        high = (region.y + region.height, region.x + region.width)
        outside = ((centres < low) | (centres >= high)).any(axis=1)
        centres[outside] = np.nan
        return centres


@dataclass(frozen=True, eq=False)
class PatchRays:
    """The rays of the patches of one view, row by row over the grid; NaN where there is none."""

    # (P, 3) float64: where the ray is at the depth 1 of the image's own camera.
    forward: np.ndarray
    # (3, 3) float64: turns the frame of the image's own camera into the optical frame.
    rotation: np.ndarray

    @property
    def directions(self) -> np.ndarray:
        """Unit vectors in the optical frame, (P, 3) float64."""
        turned: np.ndarray = self.forward @ self.rotation.T
        return turned / np.linalg.norm(turned, axis=1, keepdims=True)

    def points_m(self, depth_m: np.ndarray) -> np.ndarray:
        """Return the point of each patch in the optical frame, (P, 3) float64 in m.

        ``depth_m`` (P,) is the distance from the image plane, as depth images have it (REP 118).
        """
        points: np.ndarray = (self.forward * depth_m[:, None]) @ self.rotation.T
        return points


def patch_rays(view: PatchView, calibration: Calibration) -> PatchRays:
    """Return the rays through the centres of the patches of ``view``.

    A patch has none (NaN) if its centre is in the padding, if the lens's formula reaches its pixel
    from nowhere, or if the focal length is absurd. Without distortion it takes 0.1 ms, with it some
    milliseconds.

    Raises:
        BadInput: ``camera_info``: the calibration is for images of another size.
    """
    check_size(view.source_size_px, calibration)
    # OpenCV and CameraInfo count from the centre of the first pixel.
    pixels = view.centres_px[:, ::-1] - 0.5
    rotation = np.eye(3)
    if view.rectified:
        plane = _plane(pixels, calibration.projection)
    else:
        rotation = np.reshape(calibration.rotation, (3, 3))
        plane = _without_distortion(pixels, calibration)
    forward = np.concatenate([plane, np.ones((len(plane), 1))], axis=1)
    # Written so that NaN has none, too.
    forward[~(np.abs(plane) < _WIDEST).all(axis=1)] = np.nan
    return PatchRays(forward, rotation)


def plucker(directions: np.ndarray, rotation: np.ndarray, origin_m: np.ndarray) -> np.ndarray:
    """Return the Plücker coordinates of rays, (P, 6): direction, then moment = origin × direction.

    ``directions`` (P, 3) are unit vectors in the camera's frame. ``rotation`` (3, 3) and
    ``origin_m`` (3,) are the camera's pose in the base frame, in which the result is; moments are
    in m. The same ray has the same coordinates from wherever on it one looks.
    """
    turned = directions @ rotation.T
    return np.concatenate([turned, np.cross(origin_m, turned)], axis=1)


def _plane(pixels: np.ndarray, camera: tuple[float, float, float, float]) -> np.ndarray:
    """Return where rays through ``pixels`` (n, 2) (x, y) are at depth 1, (n, 2)."""
    fx, fy, cx, cy = camera
    with np.errstate(over="ignore"):
        return (pixels - (cx, cy)) / (fx, fy)


def _without_distortion(pixels: np.ndarray, calibration: Calibration) -> np.ndarray:
    seen = _plane(pixels, calibration.camera)
    fisheye = calibration.model == "equidistant"
    if not fisheye and not any(calibration.distortion):
        return seen
    found = np.full_like(seen, np.nan)
    given = np.isfinite(seen).all(axis=1)
    if not given.any():
        return found
    solve = _solved_fisheye if fisheye else _solved
    with np.errstate(all="ignore"):
        plane, back = solve(seen[given], np.array(calibration.distortion))
        error_px = np.abs(back - seen[given]) * calibration.camera[:2]
    # Written so that NaN is wrong, too.
    plane[~(error_px < _MOST_ERROR_PX).all(axis=1)] = np.nan
    found[given] = plane
    return found


def _solved(seen: np.ndarray, distortion: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the points that the lens puts at ``seen`` (n, 2), and where it puts them.

    Newton's method from OpenCV's solution on, which is of 5 steps and off by pixels at wide angles.
    """
    from vit_perception.image.opencv import cv2

    def lens(plane: np.ndarray) -> np.ndarray:
        points = np.concatenate([plane, np.ones((len(plane), 1))], axis=1)[:, None]
        put, _ = cv2.projectPoints(points, np.zeros(3), np.zeros(3), np.eye(3), distortion)
        return np.asarray(put).reshape(-1, 2)

    def turned_over(plane: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the inverse of the slopes, (n, 2, 2), and their determinants."""
        (a, c), (b, d) = [
            ((lens(plane + each) - lens(plane - each)) / (2 * _STEP)).T
            for each in _STEP * np.eye(2)
        ]
        determinant = a * d - b * c
        inverse = np.array([[d, -b], [-c, a]]) / determinant
        return inverse.transpose(2, 0, 1), determinant

    plane = np.asarray(cv2.undistortPoints(seen[:, None], np.eye(3), distortion)).reshape(-1, 2)
    for _ in range(_NEWTON_STEPS):
        step = np.einsum("nij,nj->ni", turned_over(plane)[0], lens(plane) - seen)
        plane = plane - step
        if not (np.abs(step) > _SOLVED).any():
            break
    # Further out the formula folds back, or comes out on the other side: no lens does that.
    same_side = (plane * seen).sum(axis=1) >= -_STEP
    plane[~(same_side & (turned_over(plane)[1] > 0))] = np.nan
    return plane, lens(plane)


def _solved_fisheye(seen: np.ndarray, distortion: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return what :func:`_solved` does, for a lens of the model equidistant."""
    from vit_perception.image.opencv import cv2

    camera = np.eye(3)
    plane = np.asarray(cv2.fisheye.undistortPoints(seen[:, None], camera, distortion))
    back = np.asarray(cv2.fisheye.distortPoints(plane, camera, distortion))
    return plane.reshape(-1, 2).copy(), back.reshape(-1, 2)
