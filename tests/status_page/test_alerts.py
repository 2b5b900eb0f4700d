"""The example alerts: Prometheus reads them, and every name in them is one of /metrics."""

from __future__ import annotations

import os
import re
import shutil
import subprocess

import pytest
from mautrix.types import UserID
from prometheus_client.parser import text_string_to_metric_families
from ruamel.yaml import YAML

from homeroom.domain.homes.model import Records
from homeroom.status_page import Condition, Snapshot
from homeroom.status_page.views import as_metrics
from tests.stack.package import ROOT

ALERTS = ROOT / "docs" / "alerts.yml"


def names() -> set[str]:
    """Every name of a sample, also of what is only there once something has happened."""
    snapshot = Snapshot(
        bot=UserID("@bot:test"),
        version="1",
        taken_at=1_000,
        condition=Condition.OK,
        records=Records(),
        is_observed=True,
        synced_at=1,
        checkpoint_at=1,
    )
    text = as_metrics(snapshot)[1].decode()
    families = list(text_string_to_metric_families(text))
    assert all(family.documentation for family in families)
    return {sample.name for family in families for sample in family.samples}


def test_every_name_in_the_alerts_is_one_of_the_metrics() -> None:
    rules = YAML(typ="safe").load(ALERTS.read_text())["groups"][0]["rules"]
    assert len(rules) >= 5
    used = {name for rule in rules for name in re.findall(r"\bhomeroom_\w+", rule["expr"])}
    assert used - names() == set()


def test_prometheus_reads_them() -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        assert not os.environ.get("CI"), "on CI nothing is left out: .ci/run installs prometheus"
        pytest.skip("there is no promtool")
    command = [promtool, "check", "rules", str(ALERTS)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    check = [promtool, "check", "metrics"]
    snapshot = Snapshot(
        bot=UserID("@bot:test"), version="1", taken_at=1_000, condition=Condition.OK
    )
    done = subprocess.run(
        check, input=as_metrics(snapshot)[1].decode(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr + done.stdout
