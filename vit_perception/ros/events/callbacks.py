"""rclpy's containers of event callbacks, which have another module in Humble."""

try:
    from rclpy.event_handler import PublisherEventCallbacks, SubscriptionEventCallbacks
except ImportError:
    from rclpy.qos_event import (  # Humble
        PublisherEventCallbacks,
        SubscriptionEventCallbacks,
    )

__all__ = ["PublisherEventCallbacks", "SubscriptionEventCallbacks"]
