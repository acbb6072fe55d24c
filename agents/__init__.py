"""Loops over streams: each agent is the shell of the decision it is named after."""
