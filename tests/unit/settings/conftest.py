"""Settings loaded from a text, as if it were a file."""

from __future__ import annotations

import pytest

from service.settings import load
from service.settings_errors import SettingsError


@pytest.fixture
def refused(tmp_path):
    """Return the message with which a file, and an environment, are refused; `forebay.toml` stands for its path."""

    def refuse(text, **environ):
        path = tmp_path / "forebay.toml"
        path.write_text(text)
        with pytest.raises(SettingsError) as caught:
            load(path, None, environ)
        return str(caught.value).replace(str(path), "forebay.toml")

    return refuse


@pytest.fixture
def accepted(tmp_path):
    def accept(text, **environ):
        path = tmp_path / "forebay.toml"
        path.write_text(text)
        return load(path, None, environ)

    return accept
