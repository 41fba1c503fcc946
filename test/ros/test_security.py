"""The SROS2 policy allows what the node really does, and with security enforced nothing goes out in
the clear.
"""

import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import yaml

from test.conftest import ROOT

POLICY, PARAMETERS = ROOT / "config/sros2_policy.xml", ROOT / "config/one_camera_one_arm.yaml"


def allowed(profile, kind: str, verb: str) -> set[str]:
    """Full names, as SROS2's permissions.xsl makes them of the names in a profile."""
    namespace = profile.get("ns").rstrip("/")
    names = [
        e.text
        for group in profile.findall(f"{kind}s[@{verb}='ALLOW']")
        for e in group.findall(kind)
    ]
    assert len(names) == len(set(names))
    return {
        name
        if name.startswith("/")
        else f"{namespace}/{profile.get('node')}{name[1:]}"
        if name[0] == "~"
        else f"{namespace}/{name}"
        for name in names
    }


def test_the_policy_allows_exactly_what_the_node_offers_and_hears(rig, tiny_classifier):
    root = ElementTree.parse(POLICY).getroot()
    assert (root.tag, root.get("version")) == ("policy", "0.2.0")
    (enclave,) = root.findall("enclaves/enclave")
    (profile,) = enclave.findall("profiles/profile")
    given = yaml.safe_load(PARAMETERS.read_text())["/**"]["ros__parameters"]
    robot = rig(
        **{
            **given,
            "model.checkpoint": str(tiny_classifier),
            "engine.backend": "torch",
            "engine.precision": "float32",
        }
    )
    robot.activate()
    node = robot.node
    assert (
        enclave.get("path")
        == profile.get("ns") + profile.get("node")
        == node.get_fully_qualified_name()
    )

    def names(ask):
        found = ask(node.get_name(), node.get_namespace())
        return {name for name, _ in found}

    # Discovery of the node's own endpoints needs no other process, and still takes a moment.
    robot.until(
        lambda: (
            names(node.get_publisher_names_and_types_by_node)
            == allowed(profile, "topic", "publish")
        ),
        what="a policy that allows the node's publishers and no others",
    )
    assert names(node.get_subscriber_names_and_types_by_node) == allowed(
        profile, "topic", "subscribe"
    )
    assert names(node.get_service_names_and_types_by_node) == allowed(profile, "service", "reply")
    assert names(node.get_client_names_and_types_by_node) == set()


def test_with_security_enforced_and_no_keys_the_node_does_not_start(tmp_path):
    environment = {
        **os.environ,
        "ROS_SECURITY_ENABLE": "true",
        "ROS_SECURITY_STRATEGY": "Enforce",
        "ROS_SECURITY_KEYSTORE": str(tmp_path),
    }
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "vit_perception.ros.start",
            "--ros-args",
            "--enclave",
            "/vit_encoder",
        ],
        env=environment,
        text=True,
        capture_output=True,
    )
    assert done.returncode != 0 and "ecurity" in done.stderr, done.stderr
