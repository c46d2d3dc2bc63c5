from telemetry import reference
from telemetry.catalogue import ATTRIBUTES, LOG_EVENTS, METRICS


def test_the_committed_reference_is_what_the_catalogue_says():
    assert reference.main(["--check"]) == 0


def test_an_old_reference_is_found_out(tmp_path, monkeypatch, capsys):
    old = tmp_path / "REFERENCE.md"
    old.write_text("yesterday's")
    monkeypatch.setattr(reference, "PATH", old)
    assert reference.main(["--check"]) == 1
    assert "python -m telemetry.reference" in capsys.readouterr().err
    assert reference.main([]) == 0
    assert reference.main(["--check"]) == 0


def test_the_reference_names_every_row():
    text = reference.reference()
    for name in (*(row.name for row in METRICS), *ATTRIBUTES, *(row.name for row in LOG_EVENTS)):
        assert f"`{name}`" in text
