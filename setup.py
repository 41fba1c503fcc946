from glob import glob

from setuptools import find_packages, setup

package_name = "vit_perception"

setup(
    name=package_name,
    version="0.1.0",
    packages=find_packages(include=[package_name, f"{package_name}.*"]),
    package_data={f"{package_name}.engines": ["parity_pictures/*"]},
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{package_name}"]),
        (f"share/{package_name}", ["package.xml"]),
        (f"share/{package_name}/launch", glob("launch/*.launch.py")),
        (f"share/{package_name}/config", glob("config/*")),
        (f"share/{package_name}/examples", glob("examples/*.py")),
        (f"share/{package_name}/examples/cpp", glob("examples/cpp/*")),
    ],
    python_requires=">=3.10",
    install_requires=["setuptools"],
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
