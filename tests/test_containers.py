"""What the container files say must agree with the code's defaults."""

from __future__ import annotations

import re

import yaml

from service.settings import Settings
from service.supervisor import DRAIN_GRACE
from tests.support.server import ROOT


def test_an_engine_waits_for_the_whole_drain() -> None:
    delay = float(re.findall(r"KERNELSCOPE_DRAIN_DELAY=(\S+)", (ROOT / "Dockerfile").read_text())[0])
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    grace = float(compose["services"]["serve"]["stop_grace_period"].removesuffix("s"))
    assert delay > 0
    assert grace == delay + Settings.model_validate({}).drain_timeout + DRAIN_GRACE
