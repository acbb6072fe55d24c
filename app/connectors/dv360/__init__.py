"""DV360: reports of Bid Manager v2."""
