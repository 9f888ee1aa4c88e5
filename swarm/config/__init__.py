"""swarm.toml: what a swarm consists of, as one frozen value that is validated once.

Reading it finds *all* errors before it says so, each as a sentence with the place and, for a word that is
not known, the words that are near. Characters are not looked at here: `deploy/provision.py` loads them.
"""

from swarm.config.reading import json_schema, load_config, parse_config
from swarm.config.sections import AgentSection, LimitsSection, SwarmConfig

__all__ = ["AgentSection", "LimitsSection", "SwarmConfig", "json_schema", "load_config", "parse_config"]
