"""A node that was destroyed leaves nothing behind for the next one of its name."""

import gc

from vit_perception.ros.encoder_node import EncoderNode


def test_the_name_of_a_destroyed_node_is_free(capfd):
    """Regression: rcl held it until the garbage collector came by, and the next node of that name
    then lost its /rosout.
    """
    gc.disable()
    try:
        for _ in range(2):
            node = EncoderNode()
            node.close()
            node.destroy_node()
    finally:
        gc.enable()
    said = capfd.readouterr().err
    assert said.count("[vit_encoder]: unconfigured") == 2
    assert "already registered" not in said
