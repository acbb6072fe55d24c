"""``connector demo``: the main job as one story, on servers of this machine, ending by itself."""
