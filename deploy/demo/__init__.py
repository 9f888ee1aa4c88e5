"""The main job as a demonstration: `make demo`. `story.py` tells it; read that first."""
