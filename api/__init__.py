"""Doors for people and programs: JSON over HTTP here, other protocols beside it."""
