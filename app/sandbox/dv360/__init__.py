"""Display & Video 360: Bid Manager v2 reports, the entities of API v4, and the storage origin of finished reports."""
