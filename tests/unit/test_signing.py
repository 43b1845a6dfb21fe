"""Keys, signatures and manifests: what OpenSSH makes is taken, what anybody else makes up is refused, and said why."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewrit.signing.keys import KeyRefusedError, SignatureError, read_key
from gatewrit.signing.manifest import MAX_SERIAL, Manifest, ManifestError, parse
from gatewrit.signing.sshsig import MAX_BYTES, check, read_signature
from gatewrit.signing.wire import Reader, WireError
from support import signers
from support.signers import armored, number, string

if TYPE_CHECKING:
    from support.signers import Signer

MESSAGE = b"gatewrit-manifest 1\nserial 1\n"
KINDS = {
    "ed25519": signers.ed25519(),
    **{curve: signers.ecdsa(curve=curve) for curve in ("nistp256", "nistp384", "nistp521")},
    "rsa-sha2-512": signers.rsa_(),
    "rsa-sha2-256": signers.rsa_(algorithm="rsa-sha2-256"),
    "sk-ed25519": signers.security_key(),
    "sk-nistp256": signers.security_key(curve=True),
}
ALICE = KINDS["ed25519"]


def verify(who: Signer, armored: str, message: bytes = MESSAGE) -> None:
    check(read_signature(armored.encode()), read_key(who.line), message)


def refused(who: Signer, armored: str, message: bytes = MESSAGE) -> str:
    with pytest.raises(SignatureError) as raised:
        verify(who, armored, message)
    return str(raised.value)


def openssh(*args: str, given: bytes = b"") -> bytes:
    return subprocess.run(["ssh-keygen", *args], input=given, capture_output=True, check=True, timeout=30).stdout


# -- signatures -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("who", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("hash_", ["sha256", "sha512"])
def test_a_signature_counts_for_its_key_and_its_message_alone(who: Signer, hash_: str) -> None:
    signature = who.sign(MESSAGE, hash_=hash_)
    verify(who, signature)
    assert refused(who, signature, MESSAGE + b"\n") == "it was made over something else"
    assert refused(signers.ed25519(seed=b"1" * 32), signature) == "it is by another key"


@pytest.mark.parametrize("kind", ["ed25519", "nistp256", "nistp384", "nistp521", "rsa-sha2-512"])
def test_openssh_signs_what_we_verify_and_verifies_what_we_take(tmp_path: Path, kind: str) -> None:
    who = KINDS[kind]
    key = who.keep(tmp_path)
    theirs = openssh("-Y", "sign", "-f", str(key), "-n", "gatewrit", given=MESSAGE).decode()
    verify(who, theirs)
    verify(who, theirs.replace("\n", "\r\n"))
    assert openssh("-lf", str(key.with_suffix(".pub"))).split()[1].decode() == read_key(who.line).fingerprint
    allowed, ours = tmp_path / "allowed", tmp_path / "ours.sig"
    allowed.write_text(f"alice {who.line}\n")
    ours.write_text(who.sign(MESSAGE, hash_="sha256"))
    openssh("-Y", "verify", "-f", str(allowed), "-I", "alice", "-n", "gatewrit", "-s", str(ours), given=MESSAGE)
    other = openssh("-Y", "sign", "-f", str(key), "-n", "git", given=MESSAGE).decode()
    assert "it was made for 'git'; sign with: ssh-keygen -Y sign -n gatewrit" in refused(who, other)


def test_the_commands_of_the_page_sign(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs/signed-policies.md").read_text()
    commands = re.findall(r"^ssh-keygen -Y sign .*$", page, re.MULTILINE)
    assert len(commands) == 2
    (tmp_path / "MANIFEST").write_bytes(MESSAGE)
    for name, command in zip(("alice", "bob"), commands, strict=True):
        who = signers.ed25519(name)
        (tmp_path / name / ".ssh").mkdir(parents=True)
        who.keep(tmp_path / name / ".ssh").rename(tmp_path / name / ".ssh/gatewrit")
        plain = {"HOME": str(tmp_path / name), "PATH": os.environ["PATH"]}
        subprocess.run(["bash", "-c", command], cwd=tmp_path, env=plain, check=True, capture_output=True, timeout=30)
        verify(who, (tmp_path / f"MANIFEST.{name}.sig").read_text())


@pytest.mark.parametrize("kind", ["sk-ed25519", "sk-nistp256"])
def test_openssh_agrees_on_security_keys(tmp_path: Path, kind: str) -> None:
    # No test can touch a key; but what counts here counts there.
    who = KINDS[kind]
    allowed, ours = tmp_path / "allowed", tmp_path / "ours.sig"
    allowed.write_text(f"alice {who.line}\n")
    ours.write_text(who.sign(MESSAGE))
    openssh("-Y", "verify", "-f", str(allowed), "-I", "alice", "-n", "gatewrit", "-s", str(ours), given=MESSAGE)


@pytest.mark.parametrize("curve", [False, True])
def test_a_security_key_must_have_been_touched(curve: bool) -> None:  # noqa: FBT001 - which kind
    untouched = signers.security_key(curve=curve, flags=0)
    assert "nobody touched" in refused(untouched, untouched.sign(MESSAGE))
    pretended = signers.security_key(curve=curve, flags=1, signed_flags=0)
    assert refused(pretended, pretended.sign(MESSAGE)) == "it was made over something else"


def test_what_is_in_the_reserved_field_is_signed_along_and_ignored() -> None:
    verify(ALICE, ALICE.sign(MESSAGE, reserved=b"of a later version"))
    blob = ALICE.claim(MESSAGE, reserved=b"tag")
    assert refused(ALICE, armored(blob.replace(string(b"tag"), string(b"gat")))) == "it was made over something else"


def test_old_and_foreign_algorithms_are_refused() -> None:
    old = signers.rsa_(algorithm="ssh-rsa")
    assert refused(old, old.sign(MESSAGE)) == "RSA signatures are rsa-sha2-512 or rsa-sha2-256 here, not ssh-rsa"
    for who in KINDS.values():
        changed = who.raw
        wrong = signers.Signer(
            "x", who.kind, who.blob, lambda over, raw=changed: string(b"none") + raw(over), who.private
        )
        assert "none" in refused(wrong, wrong.sign(MESSAGE))
    blob = ALICE.claim(MESSAGE).replace(string(b"sha512"), string(b"md5"))
    assert "its hash is md5" in refused(ALICE, armored(blob))


@pytest.mark.parametrize("junk", ["", "-----BEGIN SSH SIGNATURE-----\n", "x" * (MAX_BYTES + 1), "gpg: signature\n" * 3])
def test_what_is_no_signature_file_is_told(junk: str) -> None:
    assert "this isn't a signature file" in refused(ALICE, junk)


#: Made once: with some kinds of key the next signature over the same is another one.
CLAIMS = {kind: who.claim(MESSAGE) for kind, who in KINDS.items()}


@given(st.data(), st.sampled_from(sorted(KINDS)))
def test_whatever_is_changed_in_a_signature_it_no_longer_counts(data: st.DataObject, kind: str) -> None:
    changed = bytearray(CLAIMS[kind])
    at = data.draw(st.integers(0, len(changed) - 1))
    match data.draw(st.sampled_from(["flip", "cut", "insert", "length"])):
        case "flip":
            changed[at] ^= data.draw(st.integers(1, 255))
        case "cut":
            del changed[at : at + data.draw(st.integers(1, 40))]
        case "insert":
            changed[at:at] = data.draw(st.binary(min_size=1, max_size=8))
        case "length":
            changed[at : at + 4] = data.draw(
                st.sampled_from([b"\xff" * 4, b"\0" * 4, b"\x7f\xff\xff\xff", b"\0\0\0\1"])
            )
    if bytes(changed) != CLAIMS[kind]:
        assert refused(KINDS[kind], armored(bytes(changed)))


def test_nothing_may_stand_behind_a_signature() -> None:
    assert "1 bytes too many" in refused(ALICE, armored(ALICE.claim(MESSAGE) + b"\0"))
    for who in KINDS.values():
        with pytest.raises(SignatureError, match="1 bytes too many"):
            read_key(who.line).check(who.raw(MESSAGE) + b"\0", MESSAGE)


@pytest.mark.parametrize("text", [b"", b"\0", b"\0\x01", b"\x80", b"\x01" * 3000])
def test_numbers_have_one_form(text: bytes) -> None:
    with pytest.raises(WireError, match="where a positive number should stand"):
        Reader(string(text)).number()


@pytest.mark.parametrize("value", [1, 127, 128, 255, 256, 2**256 - 1])
def test_numbers_are_read_as_they_are_written(value: int) -> None:
    assert Reader(number(value)).number() == value


@given(st.binary(max_size=300))
def test_no_bytes_crash_the_readers(junk: bytes) -> None:
    for text in (junk, armored(junk).encode(), armored(b"SSHSIG\0\0\0\1" + junk).encode()):
        with pytest.raises(SignatureError):
            read_signature(text)
    for who in KINDS.values():
        with pytest.raises(SignatureError):
            read_key(who.line).check(junk, MESSAGE)
        with pytest.raises(SignatureError):
            read_key(who.line).check(who.raw(MESSAGE)[:23] + junk, MESSAGE)


# -- keys -------------------------------------------------------------------------------------------------------------


def line(kind: str, *parts: bytes, inner: str | None = None) -> str:
    blob = b"".join(map(string, ((inner or kind).encode(), *parts)))
    return f"{kind} {base64.b64encode(blob).decode()} alice"


POINT = b"\x04" + bytes(64)
REFUSED = {
    "": "isn't a public key",
    "ssh-ed25519": "isn't a public key",
    "ssh-ed25519 AAAA\x1b[0m": "isn't one line",
    "ssh-ed25519 " + "A" * 5000: "isn't one line",
    "ssh-ed25519 AA*A": "isn't base64",
    "ssh-ed25519 AAAA": "the key is damaged",
    "/etc/ssh/allowed_signers": "isn't a public key",
    'namespaces="gatewrit" ' + ALICE.line: "isn't a kind of key",
    ALICE.line.replace("ssh-ed25519", "ssh-ed25519-cert-v01@openssh.com"): "this is a certificate",
    line("ssh-ed25519", bytes(31)): "another length than 32",
    line("ssh-ed25519", bytes(32), b""): "4 bytes too many",
    line("ssh-ed25519", bytes(32), inner="ssh-rsa"): "the line says ssh-ed25519, but its key is ssh-rsa",
    line("ssh-dss", bytes(32)): "ssh-dss isn't a kind of key that can sign here",
    line("ecdsa-sha2-nistp256", b"nistp256", POINT): "its point isn't one of nistp256",
    line("ecdsa-sha2-nistp256", b"nistp256", b"\x02" + bytes(32)): "isn't given in full",
    line("ecdsa-sha2-nistp256", b"secp256k1", POINT): "its curve is secp256k1, where its kind says nistp256",
    line("sk-ecdsa-sha2-nistp256@openssh.com", b"nistp384", POINT, b"ssh:"): "its curve is nistp384",
}


@pytest.mark.parametrize(("text", "why"), REFUSED.items())
def test_what_is_no_key_that_can_sign_is_refused(text: str, why: str) -> None:
    with pytest.raises(KeyRefusedError, match=why):
        read_key(text)


def test_a_curve_must_be_the_one_that_its_kind_names() -> None:
    who = signers.ecdsa(curve="nistp384")
    blob = who.blob.replace(string(b"ecdsa-sha2-nistp384"), string(b"ecdsa-sha2-nistp256"))
    with pytest.raises(KeyRefusedError, match="its curve is nistp384, where its kind says nistp256"):
        read_key(f"ecdsa-sha2-nistp256 {base64.b64encode(blob).decode()}")


def test_rsa_keys_have_2048_bits_or_more() -> None:
    with pytest.raises(KeyRefusedError, match="an RSA key of 1024 bits"):
        read_key(signers.rsa_(bits=1024).line)
    modulus = number(2**2048 + 1)
    blob = string(b"ssh-rsa") + number(2) + modulus
    with pytest.raises(KeyRefusedError, match="no RSA key"):
        read_key(f"ssh-rsa {base64.b64encode(blob).decode()}")


def test_a_key_is_called_by_its_comment_or_else_its_fingerprint() -> None:
    key = read_key(signers.ed25519("alice at the NOC").line)
    assert (key.name, key.called, str(key)) == (
        "alice at the NOC",
        "alice at the NOC",
        f"alice at the NOC ({key.fingerprint})",
    )
    bare = read_key(ALICE.line.removesuffix(" alice"))
    assert bare.called == str(bare) == bare.fingerprint


# -- manifests --------------------------------------------------------------------------------------------------------

DIGEST = hashlib.sha256(b"").hexdigest()
GOOD = f"gatewrit-manifest 1\nserial 7\nmade 2015-11-30T15:20:00Z\n{DIGEST}  a.yaml\n{DIGEST}  services/b c.txt\n"


def test_a_manifest_says_what_is_where() -> None:
    read = parse(GOOD.encode())
    assert (read.serial, read.made, list(read.files)) == (7, 1448896800, ["a.yaml", "services/b c.txt"])
    assert read.text() == GOOD.encode()
    assert parse(Manifest(1, 0, {}).text()).files == {}


def test_sha256sum_reads_it_too(tmp_path: Path) -> None:
    (tmp_path / "services").mkdir()
    for name in ("a.yaml", "services/b c.txt"):
        (tmp_path / name).touch()
    lines = "".join(GOOD.splitlines(keepends=True)[3:])
    subprocess.run(["sha256sum", "--check", "--strict"], input=lines.encode(), cwd=tmp_path, check=True, timeout=10)


@pytest.mark.parametrize(
    ("old", "new", "where"),
    [
        ("manifest 1", "manifest 2", 1),
        ("gatewrit-manifest 1\n", "", 1),
        ("serial 7", "serial 0", 2),
        ("serial 7", "serial 07", 2),
        ("serial 7", f"serial {MAX_SERIAL + 1}", 2),
        ("serial 7", "serial \u0667", 2),
        ("made 2015-11-30T15:20:00Z", "made 2015-11-31T15:20:00Z", 3),
        ("made 2015-11-30T15:20:00Z", "made 2015-11-30T15:20:00+05:00", 3),
        ("made 2015", "made 1969", 3),
        (f"{DIGEST}  a.yaml", f"{DIGEST} *a.yaml", 4),
        (f"{DIGEST}  a.yaml", f"{DIGEST.upper()}  a.yaml", 4),
        ("a.yaml", "/a.yaml", 4),
        ("a.yaml", "../a.yaml", 4),
        ("a.yaml", "a//b.yaml", 4),
        ("a.yaml", "a.yaml\u202e", 4),
        ("a.yaml", "a\\n.yaml", 4),
        ("a.yaml", "MANIFEST", 4),
        ("a.yaml", "MANIFEST.alice.sig", 4),
        ("a.yaml", "z.yaml", 5),
        ("a.yaml", "services/b c.txt", 5),
        ("a.yaml\n", "a.yaml\n\n", 5),
        ("a.yaml\n", "a.yaml\r\n", 4),
        ("c.txt\n", "c.txt", 5),
        ("c.txt\n", "c.txt\n\0", 6),
    ],
)
def test_there_is_one_way_to_write_a_manifest(old: str, new: str, where: int) -> None:
    assert old in GOOD
    with pytest.raises(ManifestError) as raised:
        parse(GOOD.replace(old, new).encode())
    assert raised.value.line == where


def test_a_path_that_cant_be_signed_isnt_written() -> None:
    with pytest.raises(ManifestError, match="can't be in a manifest"):
        Manifest(1, 0, {"a\nb.yaml": DIGEST}).text()
    with pytest.raises(ManifestError, match="can't be in a manifest"):
        Manifest(1, 0, {"a\udcff.yaml": DIGEST}).text()


@given(st.integers(1, MAX_SERIAL), st.integers(0, 253402300799), st.dictionaries(st.text(min_size=1), st.just(DIGEST)))
def test_what_is_written_is_read_back(serial: int, made: int, held: dict[str, str]) -> None:
    try:
        text = Manifest(serial, made, held).text()
    except ManifestError:
        return
    assert parse(text) == Manifest(serial, made, dict(sorted(held.items())))


@given(st.one_of(st.binary(max_size=200), st.text(max_size=200).map(lambda text: (GOOD + text).encode())))
def test_no_text_crashes_the_reader_or_has_two_forms(junk: bytes) -> None:
    try:
        read = parse(junk)
    except ManifestError as error:
        assert error.line >= 1  # noqa: PT017 - some text is right
    else:
        assert read.text() == junk
