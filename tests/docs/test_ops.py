"""What is shipped for running foreman as a service fits the program."""

from __future__ import annotations

import configparser
import plistlib
import re
import sqlite3
from pathlib import Path

from foreman.config.settings import Settings
from foreman.fsm.job import State
from tests.fakes.ollama import FakeOllama
from tests.kit import running

OPS = Path(__file__).resolve().parents[2] / "ops"


def test_systemd_gives_the_running_job_its_time():
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str
    unit.read(OPS / "foreman.service")
    service = unit["Service"]
    assert service["ExecStart"].endswith("/foreman serve")
    assert int(service["TimeoutStopSec"].removesuffix("s")) > Settings.load({}).drain_timeout_s
    assert f"/var/lib/{service['StateDirectory']}/" in service["Environment"]


def test_launchd_gives_the_running_job_its_time_and_known_settings():
    agent = plistlib.loads((OPS / "org.foreman.plist").read_bytes())
    settings = Settings.load(agent["EnvironmentVariables"])
    assert agent["ProgramArguments"][1:] == ["serve"]
    assert agent["ExitTimeOut"] > settings.drain_timeout_s
    assert str(settings.db_path) == agent["EnvironmentVariables"]["FOREMAN_DB_PATH"]


def test_the_services_name_no_setting_that_does_not_exist():
    known = set(re.findall(r"FOREMAN_\w+", (OPS.parent / ".env.example").read_text("utf-8")))
    used = {name for path in OPS.glob("*foreman*") for name in re.findall(r"FOREMAN_[A-Z_]+", path.read_text("utf-8"))}
    assert used <= known


async def test_a_read_only_backup_of_a_running_foreman_is_whole(tmp_path):
    copy = tmp_path / "copy" / "foreman.db"
    copy.parent.mkdir()
    async with FakeOllama(models=["a"]) as fake:
        async with running(tmp_path, fake.url) as foreman:
            job_id = await foreman.submit("a")
            await foreman.until_finished(job_id)
            source = sqlite3.connect(f"file:{tmp_path / 'foreman.db'}?mode=ro", uri=True)
            target = sqlite3.connect(copy)
            source.backup(target)
            source.close()
            assert target.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            target.close()
        async with running(copy.parent, fake.url) as restored:
            assert (await restored.job(job_id)).state is State.DONE
