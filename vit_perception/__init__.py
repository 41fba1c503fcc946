"""Camera images, end-effector poses and joint states in, Vision Transformer tokens out.

The flow, as code in :mod:`vit_perception.pipeline.pipeline`::

    Image ─ decode ─ preprocess ─┐                         ┌─ patch_features, cls_token
    Image ─ decode ─ preprocess ─┴─ ONE encoder run ─ heads ┼─ classification
    PoseStamped or TF ─ history ─ pose at the stamp ─ token ┼─ fusion ─ tokens, embedding
    JointState ──────── history ─ joints at stamp ─── token ┘

Imports point one way: each room imports only rooms that stand before it in this list, and a test
holds that::

    files         errors for users, logs, atomic files, caches, locks, storage; other people's files
    wire          what policy authors import: tensors <-> bytes, layout, frame records; numpy only
    recordings    bags read and written, without ROS and without knowing what is in them
    policy        observations live (numpy only) and as a torch data set, without ROS
    config        the tables of parameters and of backends, settings, parameter files
    image         decode, preprocess, patch index <-> source pixel, rectification
    streams       time: sample histories, cameras grouped by stamp, the wait for a pose
    model         the Vision Transformer
    heads         classification, text and dense heads that sit on its tokens
    tokens        token sources (cameras, poses, joints, forces, rays, ...), tokenizers, fusion
    checkpoints   files <-> model; one folder per origin
    engines       one file per runtime, which it imports inside ``open()``
    pipeline      the flow above, one call a stage
    datasets      recordings and data sets -> features
    training      a head or the whole model fitted on labelled pictures
    viewing       pictures and reports for people
    ros           the only room that imports rclpy and message packages
    cli           the console script ``vit-perception``

This file imports nothing, so that ``import vit_perception.wire`` costs a policy node nothing
but numpy.
"""

__version__ = "0.1.0"
