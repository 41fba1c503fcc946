"""Camera images, end-effector poses and joint states in, Vision Transformer tokens out.

The flow, as code in :mod:`vit_perception.pipeline`::

    Image ─ decode ─ preprocess ─┐                                   ┌─ patch_features, cls_token (per camera)
    Image ─ decode ─ preprocess ─┴─ ONE batched encoder run ─ heads ─┼─ classification (per camera)
    PoseStamped or TF ─ history ─ pose at the image stamp ─ token ───┼─ fusion ─ tokens, embedding
    JointState ──────── history ─ joints at the image stamp ─ token ─┘

Imports point one way, left to right; a test walks the package and holds the rule::

    errors                         the base class of those that are written for the user
    regular_files, yaml_files      files of others, opened so that none of them can stop the process or fill its memory
    safetensors_header             what such a file says that it holds, before a library believes it
    types, settings, wire          numpy only; ``wire`` is what policy nodes import; ``durable`` are whole files,
                                   ``private_cache`` a cache that nobody else can write, ``telemetry`` is off,
                                   ``parameter_files`` those of ROS
    bags.reader                    recordings as they are, and what it reads them with
    image, pose                    + OpenCV (``image.preprocess`` and ``pose.tokenizer`` also torch)
    model, fusion                  + torch
    checkpoints, export            files <-> model
    engines                        each imports its own runtime inside ``open()``
    zero_shot, pipeline            classes by their names; the flow above
    bags                           rosbag2 files, without ROS
    policy                         observations live (numpy only) and as a torch data set, without ROS
    training                       fitting a head or the whole model on labelled pictures
    explain                        what a model does with one picture, measured and drawn
    ros                            the only package that imports rclpy and message packages
    cli                            the console script ``vit-perception``

This file imports nothing, so that ``import vit_perception.wire`` costs a policy node nothing but numpy.
"""

__version__ = "0.1.0"
