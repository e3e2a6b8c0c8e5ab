"""What the road knows of each family of models: how one is loaded, asked and estimated. The one place that tells
families apart; what it imports of a family, torch among it, is imported when it is needed.
"""

from collections.abc import Mapping
from typing import Any

from engine.jobs.families.esrgan import EsrganFamily
from engine.jobs.families.family import Family, Setup, UpscalerFamily, Use
from engine.jobs.families.seedvr2 import SeedVR2Family
from engine.jobs.families.wan import WanFamily

__all__ = ["FAMILIES", "Family", "SeedVR2Family", "Setup", "UpscalerFamily", "Use", "WanFamily"]

FAMILIES: Mapping[str, Family[Any]] = {"esrgan": EsrganFamily(), "seedvr2": SeedVR2Family(), "wan": WanFamily()}
