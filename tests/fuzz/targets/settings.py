"""Settings: a file, and below `%environment` the variables, one `NAME=value` a line."""

from __future__ import annotations

from pathlib import Path

from fuzz.holding import faults_stand_inside, home, sections
from gatewrit.settings import PREFIX, Settings, SettingsError, load_settings

_FILE = Path(home(), "gatewrit.yaml")


def one_input(data: bytes) -> None:
    text, below = sections(data, b"%environment")
    _FILE.write_bytes(text)
    lines = below.decode("utf-8", "surrogateescape").replace("\0", "").split("\n")
    environ = {PREFIX + name: value for name, _, value in (line.partition("=") for line in lines) if name}
    try:
        settings = load_settings(_FILE, environ)
    except SettingsError as error:
        assert error.faults
        texts = {str(_FILE): text} | dict.fromkeys(environ, b"")
        faults_stand_inside(error.faults, texts)
    else:
        assert isinstance(settings, Settings)
        assert isinstance(settings.state, Path)
        assert settings.hooks
