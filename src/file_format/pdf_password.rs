//! Whether an encrypted PDF opens without a password: the empty one is tried as the user's, as the PDF specification says
//! (ISO 32000-2, 7.6.4). An empty password of the owner does not count: Chrome asks for the user's then.

use aes::{
    Aes128,
    cipher::{BlockCipherEncrypt, KeyInit},
};
use md5::Md5;
use sha2::{Digest, Sha256, Sha384, Sha512};

use super::pdf_value::PdfDictionary;

/// What passwords are filled up with.
const PADDING: [u8; 32] = *b"\x28\xBF\x4E\x5E\x4E\x75\x8A\x41\x64\x00\x4E\x56\xFF\xFA\x01\x08\
    \x2E\x2E\x00\xB6\xD0\x68\x3E\x80\x2F\x0C\xA9\xFE\x64\x53\x69\x7A";

/// Whether a PDF with this encryption and file identifier asks for a password; nothing where it says too little.
pub(super) fn asks_for_password(encryption: &PdfDictionary, id: &[u8]) -> Option<bool> {
    let revision = encryption.number("R")?;
    let (owner, user) = (encryption.text("O")?, encryption.text("U")?);
    let opens = match revision {
        2..=4 => {
            let rules = OldRules { revision, encryption, id, owner: owner.get(..32)?, user: user.get(..16)? };
            rules.key_lengths().into_iter().any(|length| rules.opens(length))
        }
        5 | 6 => {
            let hash = if revision == 5 { hash_of_revision_5 } else { hash_of_revision_6 };
            let (wanted, salts) = user.split_at_checked(32)?;
            hash(salts.get(..8)?) == wanted
        }
        _ => return None,
    };
    Some(!opens)
}

/// RC4 and AES with keys of up to 128 bits, which come of MD5.
struct OldRules<'a> {
    revision: i64,
    encryption: &'a PdfDictionary,
    id: &'a [u8],
    owner: &'a [u8],
    user: &'a [u8],
}

impl OldRules<'_> {
    /// In bytes. Programs disagree about where it is said, so all that may be meant are tried.
    fn key_lengths(&self) -> Vec<usize> {
        let filters = self.encryption.dictionary("CF");
        let filter = filters.and_then(|filters| filters.dictionary("StdCF"));
        let declared = [Some(self.encryption), filter].into_iter().flatten().filter_map(|from| from.number("Length"));
        let mut lengths: Vec<_> = declared
            .filter_map(|length| usize::try_from(length).ok())
            .map(|length| if length >= 40 { length / 8 } else { length })
            .filter(|length| (5..=16).contains(length))
            .chain([5, 16])
            .collect();
        lengths.dedup();
        lengths
    }

    /// Whether the file opens with the empty password and a key of this length.
    fn opens(&self, length: usize) -> bool {
        let permissions = self.encryption.number("P").unwrap_or_default();
        let mut digest = Md5::new();
        digest.update(PADDING);
        digest.update(self.owner);
        digest.update(&permissions.to_le_bytes()[..4]);
        digest.update(self.id);
        if self.revision >= 4 && self.encryption.is_false("EncryptMetadata") {
            digest.update([0xFF; 4]);
        }
        let mut key = digest.finalize().to_vec();
        key.truncate(length);
        if self.revision < 3 {
            return rc4(&key, &PADDING).starts_with(self.user);
        }
        for _ in 0..50 {
            key = Md5::digest(&key).to_vec();
            key.truncate(length);
        }
        let mut check = Md5::new_with_prefix(PADDING).chain_update(self.id).finalize().to_vec();
        for round in 0..20 {
            check = rc4(&xor(&key, round), &check);
        }
        check.starts_with(self.user)
    }
}

fn xor(key: &[u8], with: u8) -> Vec<u8> {
    key.iter().map(|byte| byte ^ with).collect()
}

#[expect(clippy::indexing_slicing, reason = "a byte is always within 256 of them")]
fn rc4(key: &[u8], data: &[u8]) -> Vec<u8> {
    let mut state: [u8; 256] = std::array::from_fn(|at| at.to_le_bytes()[0]);
    let mut other = 0_u8;
    for (at, key) in (0..=u8::MAX).zip(key.iter().cycle()) {
        other = other.wrapping_add(state[usize::from(at)]).wrapping_add(*key);
        state.swap(usize::from(at), usize::from(other));
    }
    let (mut at, mut other) = (0_u8, 0_u8);
    let mut next = || {
        at = at.wrapping_add(1);
        other = other.wrapping_add(state[usize::from(at)]);
        state.swap(usize::from(at), usize::from(other));
        state[usize::from(state[usize::from(at)].wrapping_add(state[usize::from(other)]))]
    };
    data.iter().map(|byte| byte ^ next()).collect()
}

fn hash_of_revision_5(salt: &[u8]) -> Vec<u8> {
    Sha256::digest(salt).to_vec()
}

/// Algorithm 2.B, with an empty password.
fn hash_of_revision_6(salt: &[u8]) -> Vec<u8> {
    let mut key = hash_of_revision_5(salt);
    let mut round = 0_u32;
    loop {
        let mut data = key.repeat(64);
        let (Some(cipher_key), Some(start)) =
            (key.first_chunk::<16>(), key.get(16..).and_then(|key| key.first_chunk::<16>()))
        else {
            return key;
        };
        let cipher = Aes128::new(&(*cipher_key).into());
        let mut before = *start;
        for block in data.as_chunks_mut::<16>().0 {
            block.iter_mut().zip(before).for_each(|(byte, before)| *byte ^= before);
            cipher.encrypt_block(block.into());
            before = *block;
        }
        let remainder = data.iter().take(16).map(|byte| u32::from(*byte)).sum::<u32>() % 3;
        key = match remainder {
            0 => Sha256::digest(&data).to_vec(),
            1 => Sha384::digest(&data).to_vec(),
            _ => Sha512::digest(&data).to_vec(),
        };
        round += 1;
        let last = data.last().copied().map_or(0, u32::from);
        if round >= 64 && last + 32 <= round {
            key.truncate(32);
            return key;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As qpdf writes them; the first of each pair has an owner's password alone, the second a user's password too.
    #[test]
    fn a_password_of_the_owner_alone_is_not_asked_for() {
        let id = b"\x31\x41\x59\x26\x53\x58\x97\x93\x23\x84\x62\x64\x33\x83\x27\x95";
        for (revision, [free, asking]) in [
            (
                "R2rc4",
                [
                    "<</R 2 /Length 40 /P -12 /O <d8a81f2f756b03f0e776376607dc67c098531ac3e51f6e5cf0fc1473b1ce0975> \
                     /U <5fcef3dc7b5c6f0be57878ae43f171252ad7c082c319c0fe00dd79061e924a64>>>",
                    "<</R 2 /Length 40 /P -12 /O <853fee3f6550fc3bc212797eaed99cc9be53347583a738e25fdfb1242bf93366> \
                     /U <d233a934f8a794e352f70550015850f781b97a386736c78724ffbb51bebc0b59>>>",
                ],
            ),
            (
                "R3rc4",
                [
                    "<</R 3 /Length 128 /P -1028 /O <77b8fb098022d3ab34237ea5643c08710ea5123fc5f88bf993a68cca5f12b40f> \
                     /U <b86c3cdbd0250895cc0ab7085c01e8dd0021446990b9e4114071a4d9104984c1>>>",
                    "<</R 3 /Length 128 /P -1028 /O <2a2f0a1990192c60114730bdcd39f37828a53c89a340dd473c85299dc5258e1c> \
                     /U <a09e2aa09050292242ca44e3ea530b0e0021446990b9e4114071a4d9104984c1>>>",
                ],
            ),
            (
                "R4aes",
                [
                    "<</R 4 /Length 128 /P -1028 /O <77b8fb098022d3ab34237ea5643c08710ea5123fc5f88bf993a68cca5f12b40f> \
                     /U <b86c3cdbd0250895cc0ab7085c01e8dd0021446990b9e4114071a4d9104984c1>>>",
                    "<</R 4 /Length 128 /P -1028 /O <2a2f0a1990192c60114730bdcd39f37828a53c89a340dd473c85299dc5258e1c> \
                     /U <a09e2aa09050292242ca44e3ea530b0e0021446990b9e4114071a4d9104984c1>>>",
                ],
            ),
            (
                "R4aes-nometa",
                [
                    "<</R 4 /Length 128 /P -1028 /EncryptMetadata false /O <77b8fb098022d3ab34237ea5643c08710ea5123fc5f88bf993a68cca5f12b40f> \
                     /U <2fd0d20dff43db370a09972f1c9995310021446990b9e4114071a4d9104984c1>>>",
                    "<</R 4 /Length 128 /P -1028 /EncryptMetadata false /O <2a2f0a1990192c60114730bdcd39f37828a53c89a340dd473c85299dc5258e1c> \
                     /U <365c703bf35b560dd3ae850d5acc67190021446990b9e4114071a4d9104984c1>>>",
                ],
            ),
            (
                "R5aes",
                [
                    "<</R 5 /Length 256 /P -1028 /O <b5d2fee62b8461b9c568f8a9df0957f77a84e0da49df8569aa0fc99c00a1ed081f401087007c113cf92edae13598922d> \
                     /U <a971a415c83679c11f6ff60d16dc67067e92b80821d5d8242ad7463cf41a1a3d8d0d87b3f86f867cefcf29f66ab37346>>>",
                    "<</R 5 /Length 256 /P -1028 /O <6b57c5ac677164752f6b444216f4b820ade1eaf66ba43a9d9d5571af0cd1a1ae785f9547900059738563ee6abf81beb6> \
                     /U <a1a72141173062ff76d673407ef9678d5ea287e8bd0e282104cb4360df0af94a331890c696f118efac022b536c86a7ac>>>",
                ],
            ),
            (
                "R6aes",
                [
                    "<</R 6 /Length 256 /P -1028 /O <51c36333a32ad70bc05da517760e963dad7d5effd68393912e63d79212d5ba9f144bf55163b5eeb32e44d8329b7eae90> \
                     /U <46018953725f2c2a816e1013e0f35baf2fdbbcd450460ae4170a38862dfb49f38c02a26de3caaa853fe6e5f7f13e03d9>>>",
                    "<</R 6 /Length 256 /P -1028 /O <dc9e09466900c763cad492827b4ef1350858ea02cee4cb09e35692b13819eaa145425b06c9695f62d217e233cc0d5fe5> \
                     /U <5aef34d7be73a9dedc1bf992af19f7cbd0dea7d252cef14335b5f7d2b185c6a1e7c5b7d608067fe39e2c5c3785146df6>>>",
                ],
            ),
        ] {
            let asks = |text: &str| asks_for_password(&PdfDictionary::read(text.as_bytes()).unwrap(), id);
            assert_eq!((asks(free), asks(asking)), (Some(false), Some(true)), "{revision}");
            assert_eq!(asks(&free.replace("/U <", "/U <00")), Some(true), "{revision}");
        }
    }

    #[test]
    fn what_says_too_little_or_is_of_a_later_revision_is_not_known() {
        for text in ["<<>>", "<</R 3/O()/U()>>", "<</R 7/O(a)/U(b)>>", "<</R 6/O(a)/U(b)>>"] {
            assert_eq!(asks_for_password(&PdfDictionary::read(text.as_bytes()).unwrap(), &[]), None, "{text}");
        }
    }

    #[test]
    fn rc4_gives_the_known_stream() {
        assert_eq!(rc4(b"Key", b"Plaintext"), b"\xBB\xF3\x16\xE8\xD9\x40\xAF\x0A\xD3");
    }
}
