"""What a policy node imports: tensors to Image fields and back, and the layout that explains them.

It needs numpy alone, and no ROS. ``docs/wire_format.md`` says the same for other languages.
"""

from vit_perception.wire.basis import Basis, decode_groups, decode_tokens
from vit_perception.wire.json_values import differing_fields
from vit_perception.wire.layout import (
    MEASURED,
    SCHEMA_VERSION,
    Layout,
    LayoutApart,
    LayoutBasis,
    LayoutCamera,
    LayoutDense,
    LayoutGroup,
    LayoutHistory,
    LayoutPolicyState,
    LayoutSource,
    LayoutState,
)
from vit_perception.wire.records import BadInput
from vit_perception.wire.tensors import (
    TensorFields,
    decode_stamps,
    decode_tensor,
    encode_labels,
    encode_mask,
    encode_stamps,
    encode_tensor,
    mask_of,
)

__all__ = [
    "MEASURED",
    "SCHEMA_VERSION",
    "BadInput",
    "Basis",
    "Layout",
    "LayoutApart",
    "LayoutBasis",
    "LayoutCamera",
    "LayoutDense",
    "LayoutGroup",
    "LayoutHistory",
    "LayoutPolicyState",
    "LayoutSource",
    "LayoutState",
    "TensorFields",
    "decode_groups",
    "decode_stamps",
    "decode_tensor",
    "decode_tokens",
    "differing_fields",
    "encode_labels",
    "encode_mask",
    "encode_stamps",
    "encode_tensor",
    "mask_of",
]
