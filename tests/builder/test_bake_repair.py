"""What was spoilt after a bake: the next one mends it; and what nobody can vouch for is not recorded."""

import json
import struct
import zipfile
from pathlib import Path

import pytest

from builder.bake.likely import unlikely
from builder.bake.weighing import Weighed
from engine.errors import Cancelled
from engine.manifests import NotAManifest, read
from engine.storage.hooks import unchecked, unseen
from tests.builder.baking import Bake, of, runner, there
from tests.builder.mirror import FILES, HERE, catalog
from tests.storage.servers import Server, file

SHARED = "deep/both.pth"
ALPHA, BETA = of("a.pth", SHARED), of("b.pth", SHARED)
HEADER = json.dumps({"w": {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]}}).encode()
SAFETENSORS = struct.pack("<Q", len(HEADER)) + HEADER + bytes(4)


def flip(path: Path) -> None:
    """The last byte's last bit."""
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


def test_a_byte_that_flipped_since_is_found_and_the_file_replaced(bake: Bake, web: Server, into: Path) -> None:
    bake("alpha", "--into", into, "--from", web.url(""))
    flip(into / "a.pth")
    web.seen.clear()
    ran = bake("alpha", "--into", into, "--from", web.url(""))
    assert (ran.code, there(into), [seen.path for seen in web.seen]) == (0, ALPHA, ["/a.pth"])
    assert "a.pth: has changed since it was baked" in ran.err
    assert f"{SHARED}: already there, verified" in ran.err


@pytest.mark.parametrize("content", ["{}", "[]", "{", '{"model": "alpha", "files": {"a.pth": {"bytes": 5}}}'])
def test_a_broken_manifest_is_passed_over_and_written_anew(bake: Bake, web: Server, into: Path, content: str) -> None:
    bake("alpha", "--into", into, "--from", web.url(""))
    whole = (into / "manifests" / "alpha.json").read_text()
    (into / "manifests" / "alpha.json").write_text(content)
    ran = bake("beta", "--into", into, "--from", web.url(""))
    assert (ran.code, there(into)) == (0, ALPHA | BETA)
    assert f"passed over: {into}/manifests/alpha.json is not a manifest" in ran.err
    web.seen.clear()
    assert (bake("alpha", "--into", into, "--from", web.url("")).code, web.seen) == (0, [])
    assert (into / "manifests" / "alpha.json").read_text() == whole


@pytest.mark.parametrize("key", ["../victim", "/victim", "a/../../victim", "a\\victim", ""])
def test_a_manifest_that_leads_out_of_its_folder_is_none(tmp_path: Path, key: str) -> None:
    path = tmp_path / "alpha.json"
    path.write_text(json.dumps({"model": "alpha", "files": {key: {"bytes": 1, "sha256": "0", "licence": "MIT"}}}))
    with pytest.raises(NotAManifest, match="leads out of the folder"):
        read(path)


def test_what_another_model_s_manifest_lists_is_a_model_s_as_well(bake: Bake, web: Server, into: Path) -> None:
    for arguments in (("alpha",), ("beta", "--besides", "alpha")):
        bake(*arguments, "--into", into, "--from", web.url(""))
    assert bake("--verify", "beta", "--into", into).code == 0
    flip(into / SHARED)
    assert [error.split(" has ")[0] for error in bake("--verify", "beta", "--into", into).errors] == [
        f"{SHARED}: {into}/{SHARED}"
    ]
    assert bake("beta", "--into", into, "--from", web.url("")).code == 0
    assert there(into) == ALPHA | BETA


# ---- What nobody states a digest of -----------------------------------------------------------------------------


@pytest.fixture
def unknown(capsys: pytest.CaptureFixture[str], tmp_path: Path, lock: Path) -> Bake:
    """With a LoRA of which nobody knows size or digest."""
    described = catalog(tmp_path / "unknown.toml", HERE, extra={"bytes": None, "sha256": "record"})
    return runner(capsys, described, lock)


def test_an_error_s_text_is_not_recorded_as_weights(unknown: Bake, web: Server, into: Path, lock: Path) -> None:
    address = web.script("/extra.safetensors", file(b'{"error": "too many requests, slow down"}'))
    ran = unknown("extra", "--into", into, "--from", web.url(""))
    assert ran.errors == [
        f"extra.safetensors: {address} is no whole .safetensors file (it begins with b'{{\"error\"'), and there is no "
        "sha256 to hold it to"
    ]
    assert (there(into), lock.exists()) == ({}, False)
    web.script("/extra.safetensors", file(SAFETENSORS))
    assert unknown("extra", "--into", into, "--from", web.url("")).code == 0
    assert json.loads(lock.read_text())["extra.safetensors"]["bytes"] == len(SAFETENSORS)


def test_a_network_has_about_the_bytes_of_its_parameters(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, web: Server, into: Path, lock: Path
) -> None:
    described = tmp_path / "film.toml"
    described.write_text(
        '[source.us]\nlicence = "MIT"\n[file."film.gguf"]\nsource = "us"\nrole = "network"\n'
        '[[model]]\nname = "film"\nfamily = "esrgan"\ntasks = ["upscale"]\ndescription = "Films"\nparameters = 1000\n'
        'precision = "F16"\nfiles = ["film.gguf"]\n'
    )
    address = web.script("/film.gguf", file(b"GGUF" + bytes(36)))
    ran = runner(capsys, described, lock)("film", "--into", into, "--from", web.url(""))
    assert ran.errors == [
        f"film.gguf: {address} has 40 bytes where about 2 kB are expected, and there is no sha256 to hold it to"
    ]


@pytest.mark.parametrize(
    ("name", "content", "good"),
    [
        ("a.safetensors", SAFETENSORS, True),
        ("a.safetensors", SAFETENSORS[:-1], False),
        ("a.safetensors", b"", False),
        ("a.safetensors", struct.pack("<Q", 2) + b"[]", False),
        ("a.gguf", b"GGUF\3", True),
        ("a.gguf", b"gguf", False),
        ("a.pth", b"\x80\2", True),
        ("a.pt", b'{"error": 5}', False),
        ("tokenizer.json", b"{}", True),
    ],
)
def test_weights_begin_as_their_name_says(tmp_path: Path, name: str, content: bytes, good: bool) -> None:
    (tmp_path / "part").write_bytes(content)
    assert (unlikely(tmp_path / "part", name, None) is None) is good


def test_a_checkpoint_of_torch_is_a_whole_zip(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "part", "w") as packed:
        packed.writestr("data.pkl", bytes(5000))
    assert unlikely(tmp_path / "part", "a.pth", None) is None
    (tmp_path / "part").write_bytes((tmp_path / "part").read_bytes()[:1000])
    assert unlikely(tmp_path / "part", "a.pth", None) is not None


# ---- Stopped ----------------------------------------------------------------------------------------------------


def test_a_bake_that_is_stopped_while_it_weighs_leaves_no_file_open(tmp_path: Path) -> None:
    def stop() -> None:
        raise Cancelled("the bake was stopped")

    (tmp_path / "a.pth.part").write_bytes(FILES["a.pth"])
    part = Weighed(tmp_path / "a.pth", None, stop, unseen)
    with pytest.raises(Cancelled), part:
        pass
    assert part._file.closed
    with Weighed(tmp_path / "a.pth", None, unchecked, unseen) as again:
        assert again.size == len(FILES["a.pth"])
