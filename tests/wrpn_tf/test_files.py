"""Files that are written whole or not at all."""

import pytest

from wrpn_tf.files import WriteError, replacing, require_writable, write_bytes


def test_asking_whether_a_file_can_be_written_leaves_nothing(tmp_path):
    (tmp_path / "old").write_bytes(b"old")
    require_writable(tmp_path / "new" / "er" / "file", tmp_path / "old")
    assert [path.name for path in tmp_path.rglob("*")] == ["old"]
    assert (tmp_path / "old").read_bytes() == b"old"
    with pytest.raises(WriteError, match="old/file: Not a directory"):
        require_writable(tmp_path / "old" / "file")
    with pytest.raises(WriteError, match="it is a folder"):
        require_writable(tmp_path)


def test_a_file_stays_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "new" / "model.keras"
    with replacing(path) as partial:
        assert (partial.parent, partial.suffix) == (path.parent, ".keras")
        partial.write_bytes(b"old")
        assert not path.exists()
    with pytest.raises(RuntimeError), replacing(path) as partial:
        partial.write_bytes(b"ha")
        raise RuntimeError
    assert [file.read_bytes() for file in path.parent.iterdir()] == [b"old"]
    write_bytes(path, b"new")
    assert [file.read_bytes() for file in path.parent.iterdir()] == [b"new"]


def test_what_is_not_written_is_no_write_error(tmp_path):
    """A network that cannot be saved is not the disk's fault."""
    with pytest.raises(ValueError, match=r"^a Lambda$") as error, replacing(tmp_path / "x.keras"):
        raise ValueError("a Lambda")
    assert not isinstance(error.value, WriteError)


@pytest.mark.parametrize("path", ["file/model.keras", "folder"])
def test_the_file_that_cannot_be_written_is_named(tmp_path, path):
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    with pytest.raises(WriteError, match=rf"^Cannot write {tmp_path / path}: [NI]\S+ a directory"):
        write_bytes(tmp_path / path, b"")
    assert len(list(tmp_path.rglob("*"))) == 2
