"""A journal in a place that this process may not write to."""

import os
import pathlib
import tempfile

import pytest

from penstock_dispatcher.journal import interface, sqlite


@pytest.mark.skipif(not hasattr(os, "fork"), reason="a user of its own needs a process")
@pytest.mark.parametrize("closed", [".", "journal.db"])
def test_a_folder_that_cannot_be_written_is_told_as_that(closed: str) -> None:
    # pytest's folders are for its own user only, who may be one that may write everything.
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        journal = sqlite.SqliteJournal(folder, reserve_bytes=0)
        journal.open()
        journal.close()
        for path in (folder, *folder.iterdir()):
            path.chmod(0o777)
        (folder / closed).chmod(0o555)
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                if os.getuid() == 0:
                    os.setuid(65534)
                sqlite.SqliteJournal(folder, reserve_bytes=0).open()
            except interface.JournalFailed as error:
                os.write(writer, str(error).encode())
            finally:
                os._exit(0)
        os.close(writer)
        with os.fdopen(reader) as told:
            said = told.read()
        os.waitpid(child, 0)
        folder.chmod(0o755)
    assert f"{folder / closed} is read-only for this process" in said
    assert "mount its volume for writing" in said
