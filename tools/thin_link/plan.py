"""What is tried over the link, and the tables that docs/thin_link.md shows of it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools.thin_link.forms import DTYPES, IMAGES
from tools.thin_link.link import ADDRESSES, Link
from tools.thin_link.node_trial import parameters_of, run_node_trial
from tools.thin_link.trial import ROOT, Dds, Sent, run_trial
from vit_perception.cli.processes import profile_variable, share_folder

RECORDING = ROOT / "data/demo/pick_place_demo"
LEARNT_FROM = ROOT / "data/demo/pick_place_train"
IMAGE_TOPICS = ("/agentview/image/compressed", "/wrist/image/compressed")
RATE_HZ = 20.0  # of the recorded cameras
# A cloud machine's CPU encodes the two cameras in 0.6 s.
NODE_RATE_HZ = 1.0

LINKS = (Link(10.0), Link(2.0), Link(10.0, delay_ms=20.0, loss_percent=1.0))
SHIPPED, THIN = "large_data", "thin_link"
RECORDED, ENCODED = "recording", "node"


@dataclass(frozen=True)
class Trial:
    """One row."""

    link: Link
    form: str
    # A profile of config/, or a change of one.
    dds: str
    reliable: bool
    rate_hz: float = RATE_HZ
    # Who sends: recorded messages, or the node, which encodes replayed images.
    sender: str = RECORDED

    def is_of(self, row: dict[str, Any]) -> bool:
        """Whether ``row`` of the results is that of this trial."""
        said = tuple(row[name] for name in ("link", "form", "dds", "reliable", "rate_hz", "sender"))
        own = (self.link.name, self.form, self.dds, self.reliable, self.rate_hz, self.sender)
        return said == own


# Changes to the profile for a thin link: what each of its settings is worth, and others.
NO_BUFFER = "thin_link without sendBufferSize"
NO_SIZE = "thin_link without maxMessageSize"
FLOW = "thin_link with a flow controller instead of sendBufferSize"
PEERS = "thin_link with ROS_STATIC_PEERS"
CHANGES = (NO_BUFFER, NO_SIZE, FLOW, PEERS)
# 90 % of the link, with a period of 20 ms.
FLOW_CONTROLLER = """
      <flow_controller_descriptor_list>
        <flow_controller_descriptor>
          <name>thin</name>
          <scheduler>FIFO</scheduler>
          <max_bytes_per_period>22000</max_bytes_per_period>
          <period_ms>20</period_ms>
        </flow_controller_descriptor>
      </flow_controller_descriptor_list>"""
FLOW_WRITERS = """
  <data_writer profile_name="thin_writers" is_default_profile="true">
    <qos>
      <publishMode>
        <kind>ASYNCHRONOUS</kind>
        <flow_controller_name>thin</flow_controller_name>
      </publishMode>
    </qos>
    <historyMemoryPolicy>PREALLOCATED_WITH_REALLOC</historyMemoryPolicy>
  </data_writer>
</profiles>"""
FORMS = (IMAGES, *DTYPES, "basis_64", "basis_32")
NODE_FORMS = ("float32", "int8", "basis_64")


def trials() -> list[Trial]:
    """Return all trials: first what the tables need."""
    rows = [
        Trial(link, form, dds, reliable)
        for link in LINKS
        for dds in (SHIPPED, THIN)
        for reliable in (False, True)
        for form in FORMS
    ]
    rows += [
        Trial(LINKS[0], form, dds, reliable=False)
        for dds in (NO_BUFFER, NO_SIZE, FLOW)
        for form in ("basis_64", "int8")
    ]
    alone = Link(10.0, multicast=False)
    rows += [Trial(alone, "basis_64", dds, reliable=False) for dds in (THIN, PEERS)]
    # Lost packets can be sent again where there is time for it before the next frame.
    rows += [
        Trial(LINKS[2], "basis_64", dds, reliable, rate_hz=5.0)
        for dds in (SHIPPED, THIN)
        for reliable in (False, True)
    ]
    return rows


def node_trials() -> list[Trial]:
    """Return the trials of the node itself, and of the images at the same rate."""
    rows = []
    for link in LINKS[:2]:
        rows.append(Trial(link, IMAGES, THIN, False, NODE_RATE_HZ))
        rows += [Trial(link, form, THIN, False, NODE_RATE_HZ, ENCODED) for form in NODE_FORMS]
    return rows


def row_of(trial: Trial, work: Path, seconds: float) -> dict[str, Any]:
    """Run ``trial`` with what :mod:`.prepare` has put into ``work``, and return its row."""
    dds, sent = dds_of(trial.dds, work), sent_of(trial.form, work)
    if trial.sender == RECORDED:
        row = run_trial(trial.link, sent, dds, trial.reliable, trial.rate_hz, seconds)
    else:
        row = run_node_trial(
            trial.link,
            trial.form,
            dds,
            bag=RECORDING,
            parameters=parameters_of(ROOT / "config/demo.yaml", trial.form, sent.basis),
            speed=trial.rate_hz / RATE_HZ,
            rate_hz=trial.rate_hz,
            seconds=seconds,
        )
    return {"sender": trial.sender, **row}


def sent_of(form: str, work: Path) -> Sent:
    """Return what is sent for ``form``, from what :mod:`.prepare` has put into ``work``."""
    if form == IMAGES:
        return Sent(form, RECORDING, image_topics=IMAGE_TOPICS)
    basis = work / f"{form}.safetensors" if form.startswith("basis") else None
    return Sent(form, work / "demo", basis)


def dds_of(name: str, work: Path) -> Dds:
    """Return the settings called ``name``; a changed profile is written to ``work``."""
    if name in (SHIPPED, THIN):
        return Dds(name, {profile_variable(): str(share_folder() / f"config/fastdds_{name}.xml")})
    text = (share_folder() / f"config/fastdds_{THIN}.xml").read_text()
    more = {}
    if name == PEERS:
        more["ROS_STATIC_PEERS"] = ";".join(ADDRESSES)
    if name in (NO_BUFFER, FLOW):
        text = _without(text, "sendBufferSize")
    if name == NO_SIZE:
        text = _without(text, "maxMessageSize")
    if name == FLOW:
        text = text.replace("<rtps>", f"<rtps>{FLOW_CONTROLLER}", 1)
        text = text.replace("\n</profiles>", FLOW_WRITERS, 1)
        more["RMW_FASTRTPS_USE_QOS_FROM_XML"] = "1"  # else ROS decides how writers send
    profile = work / f"{name.replace(' ', '_')}.xml"
    profile.write_text(text)
    return Dds(name, {profile_variable(): str(profile), **more})


def _without(profile: str, setting: str) -> str:
    """Return the text of a profile without a setting of its UDP transport."""
    begin = profile.index(f"<{setting}>", profile.index("<type>UDPv4</type>"))
    end = profile.index(f"</{setting}>", begin) + len(f"</{setting}>")
    return profile[:begin] + profile[end:]
