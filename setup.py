from glob import glob

from setuptools import find_packages, setup

package_name = "vit_perception"
DEMO = ["data/demo", *glob("data/demo/*/")]

# What each part needs beside numpy. test/test_wheel.py holds the names against
# requirements/runtime.txt and fleet.txt, where each has its reason.
EXTRAS = {
    # A checkpoint and pictures in, tokens out. On aarch64 JetPack's own torch and OpenCV are used,
    # and TensorRT instead of OpenVINO.
    "encoder": [
        "torch>=2.4; platform_machine != 'aarch64'",
        "openvino>=2025.0; platform_machine != 'aarch64'",
        "opencv-python-headless>=4.5; platform_machine != 'aarch64'",
        "simplejpeg>=1.8",
        "pillow>=10.3",
        "safetensors>=0.4",
        "huggingface_hub>=0.25",
        "onnx>=1.17",
        "onnxscript>=0.5",
        "PyYAML>=5.4",
        "rich>=13",
    ],
    # To read and write recordings.
    "bags": ["rosbags==0.11.9", "apsw>=3.46", "lz4>=4", "backports.zstd>=1", "PyYAML>=5.4"],
    # To write and read features as Parquet, and read LeRobot data sets.
    "features": ["pyarrow>=15"],
    # To fit heads and fine-tune on one's own pictures.
    "training": ["scikit-learn>=1.3", "matplotlib>=3.6"],
    # Many recordings on many machines; search among many frames.
    "ray": ["ray>=2.40", "pyarrow>=15"],
    "search": ["lancedb>=0.40", "pyarrow>=15"],
}
EXTRAS["all"] = sorted({package for group in EXTRAS.values() for package in group})
# `colcon test` runs pytest because it stands here. [all] does not have it.
EXTRAS["test"] = ["pytest", "pytest-timeout", "hypothesis"]

setup(
    name=package_name,
    version="0.1.0",
    packages=find_packages(include=[package_name, f"{package_name}.*"]),
    package_data={f"{package_name}.engines": ["parity_pictures/*"]},
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{package_name}"]),
        (f"share/{package_name}", ["package.xml"]),
        # Puts lib/vit_perception on the path of a colcon workspace; colcon.pkg names it.
        (f"share/{package_name}/hook", ["resource/path.dsv"]),
        (f"share/{package_name}/launch", glob("launch/*.launch.py")),
        (f"share/{package_name}/config", glob("config/*")),
        (f"share/{package_name}/rviz", glob("rviz/*.rviz")),
        (f"share/{package_name}/foxglove", glob("foxglove/*.json")),
        *((f"share/{package_name}/{folder}", glob(f"{folder}/*.*")) for folder in DEMO),
        (f"share/{package_name}/examples", glob("examples/*.py")),
        (f"share/{package_name}/examples/cpp", glob("examples/cpp/*")),
    ],
    python_requires=">=3.10",
    # The wire format and stored features need nothing else.
    install_requires=["numpy>=1.21"],
    extras_require=EXTRAS,
    zip_safe=False,  # the parity pictures are read as files
    maintainer="vit_perception maintainers",
    maintainer_email="maintainers@example.org",
    description="Camera images and end-effector poses in, Vision Transformer tokens out.",
    license="Apache-2.0",
    entry_points={
        "console_scripts": [
            "encoder_node = vit_perception.ros.start:main",
            "vit-perception = vit_perception.cli.main:main",
        ],
    },
)
