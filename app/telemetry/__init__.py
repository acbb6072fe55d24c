"""What the service says about itself: metrics and logs, each name listed once."""
