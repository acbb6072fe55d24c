"""Decisions: plain functions over plain state, standard library only, time passed in."""
