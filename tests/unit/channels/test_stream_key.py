"""Stream keys: published test vectors, verification, and hostile text."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.channels.stream_key import Algorithm, SignatureUse, SigningSecrets, StreamKey, Verdict, sign

SECRET = "nodemedia2017privatekey"
ID = "70ef9b07-adbe-478d-b098-d7c8efd84a98"
LATER = 4_000_000_000
NOW = 1_700_000_000.5


@pytest.mark.parametrize(
    ("id", "expires", "digest"),
    [
        (ID, 1670371200, "5db080c8cdca8764de881bc04e61e2b1"),
        ("98724e64-bcd1-4887-af4a-60be440709aa", 1670544000, "63497837275539bdb8e21800887e2db9"),
        ("114e2be7-9472-4a3c-8baf-c075ea25934a", 1670544000, "c97645754ab3e5e352fdc0b26cac7f97"),
        ("3f2504e0-4f89-41d3-9a0c-0305e82c3301", 1893456000, "733b785ad3bd71ab62189ed2f034fc56"),
    ],
)
def test_md5_keys_equal_those_of_the_original_system(id, expires, digest):
    assert sign(id, expires, SECRET, Algorithm.MD5) == f"{expires}-{digest}"


@pytest.mark.parametrize(
    ("use", "digest"),
    [
        # printf '/stream/<id>-1893456000' | openssl dgst -sha256 -hmac nodemedia2017privatekey; then with /play/
        (SignatureUse.PUSH, "629879534062e96ff06364e67d0f403ad47ea456d0981a752daad96bb70e9cc0"),
        (SignatureUse.PLAY, "447d5028e38c50e7f562728d97dcf1388e348fba821168b57a0fb6378aed9fde"),
    ],
)
def test_hmac_keys_depend_on_push_or_play_use(use, digest):
    assert sign(ID, 1893456000, SECRET, use=use) == f"1893456000-{digest}"


@pytest.mark.parametrize("algorithm", Algorithm)
@pytest.mark.parametrize("use", SignatureUse)
def test_a_key_is_valid_for_its_own_use_and_channel_only(algorithm, use):
    secrets = SigningSecrets(SECRET, algorithm=algorithm)
    key = secrets.sign(ID, LATER, use)
    assert secrets.verify(ID, key, NOW, use) is Verdict.VALID
    assert (
        secrets.verify(ID, key, NOW, SignatureUse.PLAY if use is SignatureUse.PUSH else SignatureUse.PUSH)
        is Verdict.WRONG
    )
    assert secrets.verify(ID[:-1] + "9", key, NOW, use) is Verdict.WRONG


@pytest.mark.parametrize("made_with", Algorithm)
@pytest.mark.parametrize("configured", Algorithm)
def test_keys_of_both_algorithms_are_valid_with_either_setting(made_with, configured):
    assert (
        SigningSecrets(SECRET, algorithm=configured).verify(ID, sign(ID, LATER, SECRET, made_with), NOW)
        is Verdict.VALID
    )


def test_a_key_is_valid_until_the_end_of_its_last_second():
    secrets = SigningSecrets(SECRET)
    key = secrets.sign(ID, 1000)
    assert secrets.verify(ID, key, 1000) is Verdict.VALID
    assert secrets.verify(ID, key, 1000.999) is Verdict.VALID
    assert secrets.verify(ID, key, 1001) is Verdict.EXPIRED


def test_an_expired_forged_key_is_wrong():
    assert SigningSecrets(SECRET).verify(ID, sign(ID, 1000, "another"), NOW) is Verdict.WRONG


def test_the_previous_secret_is_accepted_and_never_signs():
    secrets = SigningSecrets("new", previous="old")
    assert secrets.verify(ID, sign(ID, LATER, "old"), NOW) is Verdict.VALID
    assert secrets.sign(ID, LATER) == sign(ID, LATER, "new")
    assert secrets.verify(ID, sign(ID, LATER, "older"), NOW) is Verdict.WRONG


@pytest.mark.parametrize("nothing", ["", None])
def test_an_absent_key_is_reported_as_missing(nothing):
    assert SigningSecrets(SECRET).verify(ID, nothing, NOW) is Verdict.MISSING


GENUINE = sign(ID, LATER, SECRET)


@pytest.mark.parametrize(
    "key",
    [
        GENUINE.upper(),
        " " + GENUINE,
        GENUINE + " ",
        GENUINE + "\n",
        "+" + GENUINE,
        "-" + GENUINE,
        "0" + GENUINE,
        GENUINE[:-1],
        GENUINE + "0",
        GENUINE.replace("-", "--"),
        GENUINE.replace("4", "٤", 1),
        GENUINE.replace("4", "４", 1),
        f"{LATER}-",
        f"-{'0' * 64}",
        "-",
        "9" * 5000 + "-" + "0" * 64,
        f"{2**63}-{'0' * 64}",
        "\ud800",
        "\0",
        GENUINE.split("-")[1],
        f"{LATER}.0-{GENUINE.split('-')[1]}",
        f"{LATER}-{GENUINE.split('-')[1]}-{GENUINE.split('-')[1]}",
    ],
)
def test_any_other_spelling_of_a_key_is_wrong(key):
    assert StreamKey.parse(key) is None
    assert SigningSecrets(SECRET).verify(ID, key, NOW) is Verdict.WRONG


@pytest.mark.parametrize("place", range(len(GENUINE)))
def test_a_key_with_one_changed_character_is_wrong(place):
    other = "1" if GENUINE[place] != "1" else "2"
    assert SigningSecrets(SECRET).verify(ID, GENUINE[:place] + other + GENUINE[place + 1 :], NOW) is Verdict.WRONG


@given(st.text(max_size=200), st.text(max_size=100))
def test_random_text_never_verifies_and_never_raises(id, key):
    assert SigningSecrets(SECRET).verify(id, key, NOW) in (Verdict.WRONG, Verdict.MISSING)
    assert SigningSecrets(SECRET).verify_push(id, key, key, NOW) in (Verdict.WRONG, Verdict.MISSING)


@given(
    st.text(string.printable, max_size=60),
    st.integers(0, 2**63 - 1),
    st.sampled_from(Algorithm),
    st.sampled_from(SignatureUse),
)
def test_a_signed_key_can_be_parsed_and_is_valid_until_it_expires(id, expires, algorithm, use):
    secrets = SigningSecrets(SECRET, algorithm=algorithm)
    key = secrets.sign(id, expires, use)
    parsed = StreamKey.parse(key)
    assert parsed is not None
    assert (parsed.expires, parsed.algorithm, str(parsed)) == (expires, algorithm, key)
    assert secrets.verify(id, key, expires, use) is Verdict.VALID
    assert secrets.verify(id, key, expires + 1, use) is Verdict.EXPIRED


@pytest.mark.parametrize("expires", [-1, 2**63])
def test_signing_an_expiry_out_of_range_raises_an_error(expires):
    with pytest.raises(ValueError, match="expiry"):
        sign(ID, expires, SECRET)


def test_an_empty_secret_neither_signs_nor_verifies():
    with pytest.raises(ValueError, match="empty secret"):
        sign(ID, LATER, "")
    assert SigningSecrets("", previous="").verify(ID, f"{LATER}-{'0' * 64}", NOW) is Verdict.WRONG


class TestPush:
    secrets = SigningSecrets(SECRET)

    def test_the_stored_key_is_valid(self):
        assert self.secrets.verify_push(ID, GENUINE, GENUINE, NOW) is Verdict.VALID

    def test_a_stored_md5_key_of_the_original_system_is_valid(self):
        key = sign(ID, LATER, SECRET, Algorithm.MD5)
        assert self.secrets.verify_push(ID, key, key, NOW) is Verdict.VALID

    def test_a_genuine_key_that_differs_from_the_stored_one_is_revoked(self):
        assert self.secrets.verify_push(ID, self.secrets.sign(ID, LATER + 1), GENUINE, NOW) is Verdict.REVOKED

    def test_a_revoked_key_past_its_expiry_is_reported_as_expired(self):
        old = self.secrets.sign(ID, 1000)
        assert self.secrets.verify_push(ID, GENUINE, old, NOW) is Verdict.EXPIRED

    def test_the_stored_key_expires(self):
        old = self.secrets.sign(ID, 1000)
        assert self.secrets.verify_push(ID, old, old, NOW) is Verdict.EXPIRED

    def test_a_stored_key_with_a_wrong_signature_is_wrong(self):
        forged = sign(ID, LATER, "another")
        assert self.secrets.verify_push(ID, forged, forged, NOW) is Verdict.WRONG

    @pytest.mark.parametrize("stored", [None, ""])
    def test_a_key_for_an_unknown_channel_is_wrong(self, stored):
        assert self.secrets.verify_push(ID, stored, GENUINE, NOW) is Verdict.WRONG

    def test_a_play_sign_is_never_a_push_key(self):
        play = self.secrets.sign(ID, LATER, SignatureUse.PLAY)
        assert self.secrets.verify_push(ID, play, play, NOW) is Verdict.WRONG
        assert self.secrets.verify_play(ID, play, NOW) is Verdict.VALID
        assert self.secrets.verify_play(ID, GENUINE, NOW) is Verdict.WRONG

    def test_an_absent_key_is_reported_as_missing(self):
        assert self.secrets.verify_push(ID, GENUINE, None, NOW) is Verdict.MISSING


def test_secrets_are_not_in_their_repr():
    assert SECRET not in repr(SigningSecrets(SECRET, previous=SECRET))
